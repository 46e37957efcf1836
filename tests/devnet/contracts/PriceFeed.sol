// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// AggregatorV3 price feed whose answer, and whose age, anyone may set.
contract PriceFeed {
    uint8 public immutable decimals;
    string public description;
    uint256 public constant version = 4;
    int256 public latestAnswer;
    uint256 public latestTimestamp;
    uint80 public latestRound;

    event AnswerUpdated(int256 indexed current, uint256 indexed roundId, uint256 updatedAt);

    constructor(uint8 decimals_, int256 answer, string memory description_) {
        decimals = decimals_;
        description = description_;
        _set(answer, block.timestamp);
    }

    function set(int256 answer) external {
        _set(answer, block.timestamp);
    }

    function setAt(int256 answer, uint256 updatedAt) external {
        _set(answer, updatedAt);
    }

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        return (latestRound, latestAnswer, latestTimestamp, latestTimestamp, latestRound);
    }

    /// Only the latest round is kept.
    function getRoundData(uint80 roundId) external view returns (uint80, int256, uint256, uint256, uint80) {
        require(roundId == latestRound, "No data present");
        return (latestRound, latestAnswer, latestTimestamp, latestTimestamp, latestRound);
    }

    function _set(int256 answer, uint256 updatedAt) private {
        latestAnswer = answer;
        latestTimestamp = updatedAt;
        latestRound++;
        emit AnswerUpdated(answer, latestRound, updatedAt);
    }
}

interface IAnswer {
    function decimals() external view returns (uint8);
    function latestAnswer() external view returns (int256);
}

interface IShares {
    function decimals() external view returns (uint8);
    function convertToAssets(uint256 shares) external view returns (uint256);
}

interface IDecimals {
    function decimals() external view returns (uint8);
}

/// Price of one vault share: what the share redeems for, at the price of the asset.
contract VaultShareFeed {
    IShares public immutable vault;
    IAnswer public immutable assetFeed;
    uint256 private immutable oneShare;
    uint256 private immutable oneAsset;
    string public description;

    constructor(address vault_, address asset, address assetFeed_, string memory description_) {
        vault = IShares(vault_);
        assetFeed = IAnswer(assetFeed_);
        oneShare = 10 ** IShares(vault_).decimals();
        oneAsset = 10 ** IDecimals(asset).decimals();
        description = description_;
    }

    function decimals() external view returns (uint8) {
        return assetFeed.decimals();
    }

    function latestAnswer() public view returns (int256) {
        return (assetFeed.latestAnswer() * int256(vault.convertToAssets(oneShare))) / int256(oneAsset);
    }

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        return (1, latestAnswer(), block.timestamp, block.timestamp, 1);
    }
}
