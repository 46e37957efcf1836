// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ERC4626} from "@openzeppelin/contracts/token/ERC20/extensions/ERC4626.sol";

/// The plainest ERC-4626 vault: OpenZeppelin's, with a choice of virtual-share offset.
/// It earns when somebody sends it assets, and loses when `lose` burns some.
contract Vault is ERC4626 {
    uint8 private immutable offset;

    constructor(IERC20 asset_, string memory name_, string memory symbol_, uint8 offset_)
        ERC20(name_, symbol_)
        ERC4626(asset_)
    {
        offset = offset_;
    }

    function lose(uint256 assets) external {
        IERC20(asset()).transfer(address(0xdead), assets);
    }

    function _decimalsOffset() internal view override returns (uint8) {
        return offset;
    }
}
