// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// Every call reverts with a reason.
contract RevertingToken {
    fallback() external {
        revert("this token always reverts");
    }
}

/// Every call spends all the gas it was given, so it can starve its neighbours in a multicall.
contract GasBurner {
    uint256 private sink;

    fallback() external {
        while (true) sink++;
    }
}

/// Answers every call with as many bytes as asked for at construction (0: an empty answer).
contract OddAnswer {
    uint256 private immutable size;

    constructor(uint256 size_) {
        size = size_;
    }

    fallback() external {
        uint256 n = size;
        assembly {
            return(0, n)
        }
    }
}
