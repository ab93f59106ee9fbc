"""Instruments: they make visible what a database does, and are what exercises are judged by.

Each is loaded when it is first used: drawing needs matplotlib, logging statements does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from course_lib.lazy import lazily

if TYPE_CHECKING:
    from course_lib.instruments.budget import QueryBudget as QueryBudget
    from course_lib.instruments.charts import bars as bars
    from course_lib.instruments.charts import page_walk as page_walk
    from course_lib.instruments.charts import spans as spans
    from course_lib.instruments.grid_chart import grid as grid
    from course_lib.instruments.interval_chart import intervals as intervals
    from course_lib.instruments.line_chart import curves as curves
    from course_lib.instruments.measurement import Measured as Measured
    from course_lib.instruments.measurement import measured as measured
    from course_lib.instruments.network import network_delay as network_delay
    from course_lib.instruments.plan import Plan as Plan
    from course_lib.instruments.plan import PlanNode as PlanNode
    from course_lib.instruments.plan import explain as explain
    from course_lib.instruments.pool import PoolGauge as PoolGauge
    from course_lib.instruments.query_log import QueryLog as QueryLog
    from course_lib.instruments.query_log import Statement as Statement
    from course_lib.instruments.query_log.shapes import result_shapes as result_shapes
    from course_lib.instruments.query_log.waterfall import waterfalls as waterfalls
    from course_lib.instruments.rows import Rows as Rows
    from course_lib.instruments.schema import draw_schema as draw_schema
    from course_lib.instruments.schema import read_schema as read_schema
    from course_lib.instruments.second_store import SecondStore as SecondStore
    from course_lib.instruments.second_store import StoreFailed as StoreFailed
    from course_lib.instruments.side_by_side import panels as panels
    from course_lib.instruments.sizes.calculated import index_size as index_size
    from course_lib.instruments.sizes.calculated import table_size as table_size
    from course_lib.instruments.sizes.found import Sizes as Sizes
    from course_lib.instruments.sizes.on_disk import sizes_on_disk as sizes_on_disk
    from course_lib.instruments.sizes.page_map import index_pages as index_pages
    from course_lib.instruments.sizes.picture import bytes_and_recall as bytes_and_recall
    from course_lib.instruments.sizes.picture import size_steps as size_steps
    from course_lib.instruments.stage import Stage as Stage
    from course_lib.instruments.traffic import Traffic as Traffic
    from course_lib.instruments.vectors.distances import distance_lanes as distance_lanes
    from course_lib.instruments.vectors.hnsw.graph import hnsw_graph as hnsw_graph
    from course_lib.instruments.vectors.plane import vector_plane as vector_plane
    from course_lib.instruments.vectors.recall.curve import RecallCurve as RecallCurve
    from course_lib.instruments.vectors.recall.curve import recall_curve as recall_curve
    from course_lib.instruments.vectors.recall.found import Recall as Recall
    from course_lib.instruments.vectors.recall.measure import recall as recall

_HOMES = {
    "Measured": "measurement",
    "Plan": "plan",
    "PlanNode": "plan",
    "PoolGauge": "pool",
    "QueryBudget": "budget",
    "QueryLog": "query_log",
    "Recall": "vectors.recall.found",
    "RecallCurve": "vectors.recall.curve",
    "Rows": "rows",
    "SecondStore": "second_store",
    "Sizes": "sizes.found",
    "Stage": "stage",
    "Statement": "query_log",
    "StoreFailed": "second_store",
    "Traffic": "traffic",
    "bars": "charts",
    "bytes_and_recall": "sizes.picture",
    "curves": "line_chart",
    "distance_lanes": "vectors.distances",
    "draw_schema": "schema",
    "explain": "plan",
    "grid": "grid_chart",
    "hnsw_graph": "vectors.hnsw.graph",
    "index_pages": "sizes.page_map",
    "index_size": "sizes.calculated",
    "intervals": "interval_chart",
    "measured": "measurement",
    "network_delay": "network",
    "page_walk": "charts",
    "panels": "side_by_side",
    "read_schema": "schema",
    "recall": "vectors.recall.measure",
    "recall_curve": "vectors.recall.curve",
    "result_shapes": "query_log.shapes",
    "size_steps": "sizes.picture",
    "sizes_on_disk": "sizes.on_disk",
    "spans": "charts",
    "table_size": "sizes.calculated",
    "vector_plane": "vectors.plane",
    "waterfalls": "query_log.waterfall",
}

__all__ = list(_HOMES)

__getattr__ = lazily(__name__, _HOMES)
