"""Pure statistics on arrays: no records, no frames, no figures.

Seeds lie on axis 0 everywhere. A diverged run enters as +inf, which medians and order statistics
rank as worse than any number, so it is never dropped.
"""

from analysis.measures.bootstrap import (
    NUM_RESAMPLES,
    Interval,
    bootstrap_interval,
    paired_difference,
    ratio_of_medians,
    resampled_seeds,
    statistic_interval,
)
from analysis.measures.effects import (
    cliffs_delta,
    more_seeds,
    paired_effect,
    power,
    probability_of_superiority,
    seeds_needed,
)
from analysis.measures.ranks import (
    RankTable,
    kendall_tau,
    loglog_slope,
    performance_profile,
    rank_table,
    spearman,
)
from analysis.measures.series import (
    area_under_curve,
    median_filter,
    running_mean,
    suboptimality,
    thinned,
)
from analysis.measures.targets import (
    Comparison,
    compare_times,
    median_time,
    restricted_mean,
    steps_to_target,
)

__all__ = [
    "NUM_RESAMPLES",
    "Comparison",
    "Interval",
    "RankTable",
    "area_under_curve",
    "bootstrap_interval",
    "cliffs_delta",
    "compare_times",
    "kendall_tau",
    "loglog_slope",
    "median_filter",
    "median_time",
    "more_seeds",
    "paired_difference",
    "paired_effect",
    "performance_profile",
    "power",
    "probability_of_superiority",
    "rank_table",
    "ratio_of_medians",
    "resampled_seeds",
    "restricted_mean",
    "running_mean",
    "seeds_needed",
    "spearman",
    "statistic_interval",
    "steps_to_target",
    "suboptimality",
    "thinned",
]
