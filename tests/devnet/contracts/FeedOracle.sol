// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

interface IFeed {
    function decimals() external view returns (uint8);
    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80);
}

interface IVault {
    function convertToAssets(uint256 shares) external view returns (uint256);
}

interface IToken {
    function decimals() external view returns (uint8);
}

/// A lending-market oracle in the shape of Morpho's Chainlink oracle (same view names): the price of one smallest
/// unit of the base token in smallest units of the quote token, times 1e36, through two feeds and, for a base
/// token that is a vault share, the vault's exchange rate.
contract FeedOracle {
    IVault public immutable BASE_VAULT;
    uint256 public immutable BASE_VAULT_CONVERSION_SAMPLE;
    IFeed public immutable BASE_FEED_1;
    IFeed public immutable BASE_FEED_2;
    IVault public immutable QUOTE_VAULT;
    uint256 public constant QUOTE_VAULT_CONVERSION_SAMPLE = 1;
    IFeed public immutable QUOTE_FEED_1;
    IFeed public immutable QUOTE_FEED_2;
    uint256 public immutable SCALE_FACTOR;

    /// `baseToken` is the vault's asset when there is a vault (else the collateral itself).
    constructor(
        address baseVault,
        uint256 baseVaultSample,
        address baseFeed,
        address baseToken,
        address quoteFeed,
        address quoteToken
    ) {
        BASE_VAULT = IVault(baseVault);
        BASE_VAULT_CONVERSION_SAMPLE = baseVaultSample;
        BASE_FEED_1 = IFeed(baseFeed);
        QUOTE_FEED_1 = IFeed(quoteFeed);
        uint256 up = 36 + IToken(quoteToken).decimals() + IFeed(quoteFeed).decimals();
        uint256 down = uint256(IToken(baseToken).decimals()) + IFeed(baseFeed).decimals();
        SCALE_FACTOR = 10 ** (up - down) / baseVaultSample;
    }

    function price() external view returns (uint256) {
        uint256 rate = address(BASE_VAULT) == address(0)
            ? BASE_VAULT_CONVERSION_SAMPLE
            : BASE_VAULT.convertToAssets(BASE_VAULT_CONVERSION_SAMPLE);
        return (SCALE_FACTOR * rate * _answer(BASE_FEED_1)) / _answer(QUOTE_FEED_1);
    }

    function _answer(IFeed feed) private view returns (uint256) {
        (, int256 answer,,,) = feed.latestRoundData();
        require(answer >= 0, "negative answer");
        return uint256(answer);
    }
}
