// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// A token's rate, never above a snapshot grown by so much a second, times a base price: the getters of Aave's CAPO.
contract CappedRateFeed {
    uint8 public constant decimals = 8;
    uint8 public constant RATIO_DECIMALS = 18;
    address public immutable RATIO_PROVIDER;
    int256 public immutable getRatio;
    uint256 public immutable getSnapshotRatio;
    uint256 public immutable getSnapshotTimestamp;
    uint256 public immutable getMaxRatioGrowthPerSecond;
    uint256 private immutable basePrice;

    constructor(uint256 ratio, uint256 snapshot, uint256 at, uint256 growth, uint256 basePrice_) {
        RATIO_PROVIDER = msg.sender;
        getRatio = int256(ratio);
        getSnapshotRatio = snapshot;
        getSnapshotTimestamp = at;
        getMaxRatioGrowthPerSecond = growth;
        basePrice = basePrice_;
    }

    function latestAnswer() external view returns (int256) {
        uint256 cap = getSnapshotRatio + getMaxRatioGrowthPerSecond * (block.timestamp - getSnapshotTimestamp);
        uint256 ratio = uint256(getRatio);
        return int256((ratio < cap ? ratio : cap) * basePrice / 1e18);
    }
}

/// Later versions keep the growth with six more places.
contract ScaledCappedRateFeed is CappedRateFeed {
    constructor(uint256 ratio, uint256 snapshot, uint256 at, uint256 growth, uint256 basePrice_)
        CappedRateFeed(ratio, snapshot, at, growth, basePrice_)
    {}

    function getMaxRatioGrowthPerSecondScaled() external view returns (uint256) {
        return getMaxRatioGrowthPerSecond * 1e6;
    }
}
