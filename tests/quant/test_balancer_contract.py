"""Balancer v2 integer forms: answers of the compiled contracts, equal to the unit.

WeightedMath, LogExpMath and StableMath of balancer-v2-monorepo 316ded078, compiled with solc 0.7.6 behind a contract
that only forwards, called on a local chain.  (Of 400 random inputs each, all answers and all reverts were the same.)
Pools of both versions on mainnet: what BalancerQueries.querySwap answered at block 24,407,242 (BowTiedDevil/degenbot,
MIT), fee and decimals included.  (Of its 804 quotes over 15 pools, all were the same.)  Other integers of version 1 are
of the sources at 8c8a3124a, of version 3 of balancer-v3-monorepo, compiled and called likewise.
"""

from typing import NamedTuple

import pytest

from aggregator.core.errors import DomainError
from aggregator.quant.balancer import (
    ONE,
    exp_fixed,
    pow_fixed,
    weighted_amount_in,
    weighted_amount_out,
    weighted_invariant,
)
from aggregator.quant.stableswap import balancer_stable_amount_in, balancer_stable_amount_out, balancer_stable_invariant

# amount in, balance and weight in, balance and weight out -> _calcOutGivenIn
OUT = [
    (7691183586, 7691183586957795328, 65670462648394832, 64593688839194216, 934329537351605168, 4539398),
    (24449332283, 24449332283766087680, 257530151542738677, 4965775681237772, 742469848457261323, 1722359),
    (
        47942940772513628160,
        159863090271802687488,
        645314225693652953,
        6890727614334010,
        354685774306347047,
        2614924733642772,
    ),
    (8360369959256681, 8360369959256680604631040, 737062179473666137, 30593103346386656, 262937820526333863, 85757685),
    (1180451712194285, 3936151091011290, 343896775412203181, 449761090735907712, 656103224587796819, 57770233620671812),
    (
        307773076939565184,
        3077730769395651706880,
        950929626453902680,
        7095194018445360365568,
        49070373546097320,
        13735701923340874967,
    ),
]
# amount out, balance and weight in, balance and weight out -> _calcInGivenOut
IN = [
    (64593688, 7691183586957795328, 65670462648394832, 64593688839194216, 934329537351605168, 109426745798),
    (4965775, 24449332283766087680, 257530151542738677, 4965775681237772, 742469848457261323, 70488649373),
    (6890727, 159863090271802687488, 645314225693652953, 6890727614334010, 354685774306347047, 87867566660),
    (
        9174871693581358,
        8360369959256680604631040,
        737062179473666137,
        30593103346386656,
        262937820526333863,
        1133925094453805080874978,
    ),
    (449761090735907, 3936151091011290, 343896775412203181, 449761090735907712, 656103224587796819, 7520515738532),
    (
        7095194018445,
        3077730769395651706880,
        950929626453902680,
        7095194018445360365568,
        49070373546097320,
        158849471668,
    ),
]
# balances, weights -> _calculateInvariant
INVARIANT = [
    (
        [9532393546126601486336, 46447423393648057778176],
        [300000000000000000, 700000000000000000],
        28882429914433968542097,
    ),
    (
        [29428661711393300480, 3740533843670428286976, 5668494109637310],
        [200000000000000000, 300000000000000000, 500000000000000000],
        1747302220966013872,
    ),
    (
        [5190557896301056, 296145101777939904, 146150288901072777904128, 135240780355717021696],
        [10000000000000000, 20000000000000000, 30000000000000000, 940000000000000000],
        133280750561309691485,
    ),
    (
        [
            5885265292928115712,
            10635119204613583011840,
            274291605446895796224,
            3955523439323891200,
            3408425283912580718395392,
        ],
        [200000000000000000, 200000000000000000, 200000000000000000, 200000000000000000, 200000000000000000],
        746269569338148877432,
    ),
]
# x, y -> LogExpMath.pow
POWER = [
    (2443054777731936256, 16614319337217080, 1014951398092783228),
    (78177994107710608, 422651601622214976, 340533938110730230),
    (317431445577508519936, 4438400079744017920, 126859595920980594197521610222),
    (261089459428, 123200964822023888, 154504842246586591),
    (12181230319075725312, 5753374886285591, 1014486771134426596),
    (7371522673876272, 1570494013385574, 992318324712847774),
]
# x -> LogExpMath.exp
EXP = [
    (-41000000000000000000, 1),
    (-100000000000000003, 904837418035959570),
    (1, 1000000000000000001),
    (3000000000000000007, 20085536923187667881),
    (71000000000000012345, 6837671229762828277805496224009765789342981500000),
    (130000000000000000000, 287264955081783193326519143742863858051506000000000000000000000000000000000),
]
# A * 1000, balances, i, j, amount in, amount out -> _calculateInvariant, _calcOutGivenIn, _calcInGivenOut
STABLE = [
    (
        100000,
        [7496673294905319935180800, 3102978259835876206968832],
        1,
        0,
        1294586392612484757323776,
        2673782158644600325013504,
        10588798185505436010951494,
        1303889354080542551776067,
        2663348180043128621563507,
    ),
    (
        2000000,
        [356100264998696426405888, 2084957445227189066792960, 3376943733322886452084736],
        1,
        0,
        76091751286943151816704,
        149891526685617708597248,
        5816153489424369333683665,
        75460088904375144551948,
        151609613777336012581568,
    ),
    (
        1000,
        [14562056613883190391603200, 6620341759438384321789952, 557470512710885794906112, 888410578433940119355392],
        2,
        0,
        314633611904772839833600,
        3106711669210711855202304,
        14234404895614019921964458,
        2804425687663467673552172,
        362389540214683532064320,
    ),
    (
        5000000,
        [
            749449435776129483931648,
            210752093564896293158912,
            289881300385274062176256,
            2312507271689694334681088,
            482116177939225196363776,
        ],
        3,
        0,
        231026721191549709844480,
        180652080512928764133376,
        4043771651841935016079361,
        230683053006101262007541,
        180895489573776523617563,
    ),
    (
        37000,
        [313736705880518557696, 1212708295760573366272],
        1,
        0,
        717779728723227049984,
        128527124350753177600,
        1515994330160635599551,
        300144150586820632964,
        144419260478280304612,
    ),
]


class Live(NamedTuple):
    """A pool as the vault had it: raw balances, factors that scale them to 18 places (of 1e18), fee of 1e18, weights or
    amplification, version."""

    balances: tuple[int, ...]
    scales: tuple[int, ...]
    fee: int
    terms: tuple[int, ...] | int
    version: int

    def up(self, raw: int, i: int) -> int:
        return raw * self.scales[i] // ONE

    def out(self, i: int, j: int, raw: int) -> int:
        given = self.up(raw - ceil(raw * self.fee, ONE), i)
        held = [self.up(x, k) for k, x in enumerate(self.balances)]
        if isinstance(self.terms, int):
            paid = balancer_stable_amount_out(i, j, given, held, self.terms, self.version)
        else:
            paid = weighted_amount_out(given, held[i], self.terms[i], held[j], self.terms[j], self.version)
        return paid * ONE // self.scales[j]

    def needed(self, i: int, j: int, raw: int) -> int:
        wanted = self.up(raw, j)
        held = [self.up(x, k) for k, x in enumerate(self.balances)]
        if isinstance(self.terms, int):
            given = balancer_stable_amount_in(i, j, wanted, held, self.terms, self.version)
        else:
            given = weighted_amount_in(wanted, held[i], self.terms[i], held[j], self.terms[j], self.version)
        return ceil(ceil(given * ONE, self.scales[i]) * ONE, ONE - self.fee)


def ceil(a: int, b: int) -> int:
    return -(-a // b)


BAL_WETH = Live(
    (29401141523139759968410400, 605007002163317945954), (ONE, ONE), ONE // 100, (8 * ONE // 10, ONE // 5), 1
)
USDC_WETH = Live((88868983841, 42484865836432363093), (10**12 * ONE, ONE), 3 * ONE // 1000, (ONE // 2, ONE // 2), 1)
DAI_WETH = Live(
    (63642228811179189251000, 45714902326364041432), (ONE, ONE), ONE // 2000, (4 * ONE // 10, 6 * ONE // 10), 1
)
DAI_GP_WETH_USDT = Live(
    (6097388191404198766, 5154410444876220620609058, 3028643404121239, 6293566),
    (ONE, ONE, ONE, 10**12 * ONE),
    3 * ONE // 1000,
    (1666 * 10**14, ONE // 2, 1666 * 10**14, 1668 * 10**14),
    1,
)
AURA_KAI = Live((62816080261597564972316, 114799562283553693154351), (ONE, ONE), ONE // 1000, (ONE // 2, ONE // 2), 2)
META_WSTETH = Live((83498638933194391, 101943423934693947), (1226470562881593452, ONE), ONE // 2500, 50_000, 1)
META_CBETH = Live(
    (106291575461838404, 123633891755633279), (1226470562881593452, 1122544909959743885), ONE // 2500, 50_000, 1
)
COMPOSABLE_TUSD = Live(
    (9932226138436149651, 10067534331245782107), (ONE, 366332019912307), 3 * ONE // 10_000, 600_000, 2
)
# pool, coin in, coin out, amount in, amount out
GIVEN_IN = [
    (BAL_WETH, 0, 1, 29401141523139756032, 2395821792851510),
    (BAL_WETH, 0, 1, 294011415231397590204416, 23376850442878438913),
    (BAL_WETH, 1, 0, 60500700216331, 727677913614343872),
    (BAL_WETH, 1, 0, 151251750540829491200, 1581338286282635215558008),
    (USDC_WETH, 0, 1, 8886, 4235148584961),
    (USDC_WETH, 0, 1, 22217245960, 8476568188584380452),
    (DAI_WETH, 0, 1, 15910557202794797858816, 6316367144238228388),
    (DAI_GP_WETH_USDT, 0, 1, 609738819140, 171229658219854312),
    (DAI_GP_WETH_USDT, 0, 2, 1524347047851049728, 604274059217281),
    (AURA_KAI, 0, 1, 15704020065399391387648, 22941540852424512938992),
    (AURA_KAI, 0, 1, 62816080261597560, 114684648151192180),
    (META_WSTETH, 0, 1, 10437329866649298, 12762961767547843),
    (META_WSTETH, 0, 1, 20874659733298596, 25456346087288893),
    (META_WSTETH, 0, 1, 8349863893, 10235851125),
    (META_CBETH, 0, 1, 10629157546, 11622842030),
    (META_CBETH, 0, 1, 1062915754618, 1162284088745),
    (COMPOSABLE_TUSD, 0, 1, 1241528267304518656, 4149396872971336384),
    (COMPOSABLE_TUSD, 0, 1, 993222613843, 5128707063198),
]
# pool, coin in, coin out, amount out, amount in
GIVEN_OUT = [
    (USDC_WETH, 0, 1, 10621216459108089856, 29712131008),
    (USDC_WETH, 1, 0, 8886898384, 4734744883083186460),
    (DAI_GP_WETH_USDT, 0, 1, 5154410444876220416, 18354584793338),
    (DAI_GP_WETH_USDT, 0, 2, 302864340, 611573661250),
    (DAI_GP_WETH_USDT, 3, 2, 757160851030309, 2101266),
    (AURA_KAI, 1, 0, 7852010032699695693824, 16416353822902001236487),
    (META_WSTETH, 0, 1, 10194342393, 8316003750),
    (META_WSTETH, 1, 0, 8349863893319439, 10264396523423850),
    (META_CBETH, 0, 1, 12363389175, 11306392729),
    (COMPOSABLE_TUSD, 1, 0, 993222613843614976, 8863221256534785813),
]


@pytest.mark.parametrize(("pool", "i", "j", "raw", "answer"), GIVEN_IN)
def test_what_pools_of_each_version_paid_on_mainnet(pool: Live, i: int, j: int, raw: int, answer: int) -> None:
    assert pool.out(i, j, raw) == answer


@pytest.mark.parametrize(("pool", "i", "j", "raw", "answer"), GIVEN_OUT)
def test_what_pools_of_each_version_asked_on_mainnet(pool: Live, i: int, j: int, raw: int, answer: int) -> None:
    assert pool.needed(i, j, raw) == answer


# version, round up, A * 1000, balances -> invariant
INVARIANTS = [
    (
        1,
        True,
        1000,
        [7791128550344142914322432, 152180752879844277092352, 480265147132288406913024],
        4032874778245353872505110,
    ),
    (
        1,
        False,
        1000,
        [7791128550344142914322432, 152180752879844277092352, 480265147132288406913024],
        4032874778245353872505107,
    ),
    (
        3,
        True,
        331000,
        [989519849554320388259840, 6879474630393056666320896, 1494204334569002226417664],
        9344648568218765082814561,
    ),
]
# version, A * 1000, balances, coin in, coin out, amount -> out for it, in for it
STABLE_SWAPS = [
    (
        1,
        1000,
        [7791128550344142914322432, 152180752879844277092352, 480265147132288406913024],
        2,
        1,
        56331640577137638899712,
        767428573260284032,
        16905815497863604318939,
        2294082383342529464,
    ),
    (
        3,
        331000,
        [989519849554320388259840, 6879474630393056666320896, 1494204334569002226417664],
        1,
        0,
        539510562184212424687616,
        3254918501432890368,
        513567357398990653919365,
        3333344724484328906,
    ),
]


@pytest.mark.parametrize(("version", "up", "a", "balances", "invariant"), INVARIANTS)
def test_the_first_stable_pools_round_their_invariant(
    version: int, up: bool, a: int, balances: list[int], invariant: int
) -> None:
    assert balancer_stable_invariant(balances, a, version, round_up=up) == invariant


@pytest.mark.parametrize(("version", "a", "balances", "i", "j", "sold", "bought", "out", "paid"), STABLE_SWAPS)
def test_stable_swaps_of_other_versions(
    version: int, a: int, balances: list[int], i: int, j: int, sold: int, bought: int, out: int, paid: int
) -> None:
    assert balancer_stable_amount_out(i, j, sold, balances, a, version) == out
    assert balancer_stable_amount_in(i, j, bought, balances, a, version) == paid


@pytest.mark.parametrize("version", [0, 4])
def test_an_unknown_version_is_refused(version: int) -> None:
    for call in (
        lambda: weighted_amount_out(1, 100, ONE, 100, ONE, version),
        lambda: weighted_invariant([ONE, ONE], [ONE // 2, ONE // 2], version),
        lambda: balancer_stable_amount_in(0, 1, 1, [ONE, ONE], 1000, version),
    ):
        with pytest.raises(DomainError, match="version"):
            call()


@pytest.mark.parametrize("case", OUT)
def test_weighted_amount_out(case: tuple[int, ...]) -> None:
    assert weighted_amount_out(*case[:5]) == case[5]


@pytest.mark.parametrize("case", IN)
def test_weighted_amount_in(case: tuple[int, ...]) -> None:
    assert weighted_amount_in(*case[:5]) == case[5]


@pytest.mark.parametrize(("balances", "weights", "invariant"), INVARIANT)
def test_weighted_invariant(balances: list[int], weights: list[int], invariant: int) -> None:
    assert weighted_invariant(balances, weights) == invariant


@pytest.mark.parametrize(("x", "y", "power"), POWER)
def test_power(x: int, y: int, power: int) -> None:
    assert pow_fixed(x, y) == power


@pytest.mark.parametrize(("x", "power"), EXP)
def test_exponential(x: int, power: int) -> None:
    assert exp_fixed(x) == power


@pytest.mark.parametrize(("a", "balances", "i", "j", "sold", "bought", "invariant", "out", "paid"), STABLE)
def test_stable(
    a: int, balances: list[int], i: int, j: int, sold: int, bought: int, invariant: int, out: int, paid: int
) -> None:
    assert balancer_stable_invariant(balances, a) == invariant
    assert balancer_stable_amount_out(i, j, sold, balances, a) == out
    assert balancer_stable_amount_in(i, j, bought, balances, a) == paid


def test_what_the_contract_reverts_is_refused() -> None:
    _, balance_in, weight_in, balance_out, weight_out, _ = OUT[0]
    for call in (
        lambda: weighted_amount_out(balance_in * 31 // 100, balance_in, weight_in, balance_out, weight_out),
        lambda: weighted_amount_in(balance_out * 31 // 100, balance_in, weight_in, balance_out, weight_out),
        lambda: exp_fixed(-41 * 10**18 - 1),
        lambda: exp_fixed(130 * 10**18 + 1),
    ):
        with pytest.raises(DomainError):
            call()
