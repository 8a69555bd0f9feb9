from . import regimes as regimes
from .calibration import (
    plot_reliability as plot_reliability,
)
from .calibration import (
    reliability as reliability,
)
from .calibration import (
    to_signals as to_signals,
)
from .calibration import (
    up_probability as up_probability,
)
from .classical import (
    granger as granger,
)
from .classical import (
    hayashi_yoshida as hayashi_yoshida,
)
from .classical import (
    lagged_correlation as lagged_correlation,
)
from .contributions import (
    Contributions as Contributions,
)
from .contributions import (
    measure_contributions as measure_contributions,
)
from .contributions import (
    without_source as without_source,
)
from .explorer import (
    AttentionExplorer as AttentionExplorer,
)
from .explorer import (
    explore_attention as explore_attention,
)
from .faithfulness import (
    FaithfulnessReport as FaithfulnessReport,
)
from .faithfulness import (
    attributions as attributions,
)
from .faithfulness import (
    audit_faithfulness as audit_faithfulness,
)
from .faithfulness import (
    frozen_attention as frozen_attention,
)
from .faithfulness import (
    zeroed_edges as zeroed_edges,
)
from .inference import (
    benjamini_hochberg as benjamini_hochberg,
)
from .inference import (
    robust_regression as robust_regression,
)
from .leadlag import (
    LeadLagReport as LeadLagReport,
)
from .leadlag import (
    analyze_lead_lag_relationships as analyze_lead_lag_relationships,
)
from .leadlag import (
    contribution_test as contribution_test,
)
from .leakage import LeakageReport as LeakageReport
from .leakage import audit_leakage as audit_leakage
from .maps import (
    AttentionMaps as AttentionMaps,
)
from .maps import (
    attention_maps as attention_maps,
)
from .maps import (
    information_flow as information_flow,
)
from .maps import (
    leadership_scores as leadership_scores,
)
from .maps import (
    predict_and_visualize as predict_and_visualize,
)
from .maps import (
    rollout as rollout,
)
from .nulls import (
    ShuffleControl as ShuffleControl,
)
from .nulls import (
    SurrogateNull as SurrogateNull,
)
from .nulls import (
    label_shuffle as label_shuffle,
)
from .nulls import (
    reverse_time as reverse_time,
)
from .nulls import (
    surrogate_null as surrogate_null,
)
from .scores import correlation as correlation
from .scores import score_forecasts as score_forecasts
