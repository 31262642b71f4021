"""Sweep, null calibration, test of the input and diagnosis, on cells whose answer is known."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest

import harmonypy_lite as hl
from harmonypy_lite import tl
from harmonypy_lite.cases import VARIED
from harmonypy_lite.theta.results import COLUMNS


def simulated(n_cells=500, **given):
    return hl.datasets.simulate(n_cells, n_dims=10, **given)


@pytest.fixture(scope="module")
def swept():
    adata = simulated(batch_strength=5.0)
    return adata, tl.sweep_theta(adata, "batch", (0, 2, 8), "cell_type", n_seeds=2)


def test_sweep__table_holds_the_run_that_a_user_gets(swept):
    adata, found = swept
    again = adata.copy()
    hl.pp.harmony_integrate(again, "batch", theta=8.0)
    one = tl.sweep_theta(adata, "batch", (8,), "cell_type", n_seeds=1, n_splits=0)
    row = one.table.iloc[0]
    moved = again.obsm["X_pca_harmony"]
    kept = [
        hl.metrics.structure_preservation(
            adata.obsm["X_pca"], moved, adata.obs["batch"], n_neighbors=15
        ).overlap
    ]
    assert row["structure"] == pytest.approx(kept[0])
    assert row["objective"] == pytest.approx(again.uns["harmony"]["objective"][-1])
    near = hl.metrics.find_neighbors(moved, 30).indices
    counts = pd.get_dummies(adata.obs["batch"]).to_numpy(float)[near].sum(axis=1)
    assert row["mixing"] == pytest.approx((900 / (counts**2).sum(axis=1)).mean())
    scores = hl.metrics.nmi_ari(moved, adata.obs["cell_type"])
    assert (row["nmi"], row["ari"]) == pytest.approx(tuple(scores))
    assert found.table["value"].tolist() == [0.0, 2.0, 8.0]
    assert tuple(found.table.columns) == COLUMNS


def test_sweep__recommends_what_mixes_a_strong_effect(swept):
    adata, found = swept
    assert found.verdict == "correct"
    assert found.recommended in (2.0, 8.0)
    low, high = found.interval
    assert low <= found.recommended <= high
    assert len(found.votes) == 2
    assert found.null is not None
    assert "X_pca_harmony" not in adata.obsm


def test_sweep__is_json_and_holds_its_rule(swept):
    tree = json.loads(json.dumps(swept[1].to_dict(), allow_nan=False))
    assert tree["recommended"] == swept[1].recommended
    assert len(tree["table"]) == 3
    assert "at the same rate" in tree["rule"]
    assert tree["versions"]["harmonypy_lite"] == hl.__version__


def test_sweep__does_not_depend_on_threads():
    adata = simulated(batch_strength=3.0)
    one, two = (
        tl.sweep_theta(adata, "batch", (0, 2), n_seeds=1, n_jobs=n).table.drop(columns="seconds")
        for n in (1, 2)
    )
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_sweep__of_cells_without_effect_asks_for_no_correction():
    found = tl.sweep_theta(simulated(1000, batch_strength=0.0), "batch", (0, 2), n_seeds=1)
    assert found.verdict == "no correction needed"
    assert found.recommended is None
    assert found.interval is None


def test_sweep__of_two_covariates_counts_structure_inside_their_combinations():
    # mixing the second covariate tears the inside of a level of the first, as it should
    adata = simulated(900, n_types=3, covariate="crossed", covariate_strength=6.0)
    (other,) = set(adata.obs) - {"batch", "cell_type"}
    found = tl.sweep_theta(adata, ["batch", other], (2,), n_seeds=1)
    assert found.verdict == "correct"
    assert found.table["structure"].item() > 0.9
    assert found.before["mixing_expected"] > 3  # more than either has levels


def test_sweep__of_batches_that_nothing_mixes_says_so():
    adata = simulated(600, batch_strength=40.0, n_types=3, n_batches=2)
    found = tl.sweep_theta(adata, "batch", (0, 2), n_seeds=1)
    assert found.verdict == "cannot be told apart"
    assert found.votes == (None,)


@pytest.mark.parametrize(
    ("vary", "values"),
    [
        ("sigma", (0.1, 0.2)),
        ("n_clusters", (5, 10)),
        ("alpha", (0.2, 1.0)),
        ("flavor", ("harmony2", "pooled")),
        ("start", ("kmeans", "centred")),
    ],
)
def test_sweep__varies_each_parameter(vary, values):
    adata = simulated(300)
    found = tl.sweep_theta(
        adata, "batch", vary=vary, values=values, n_seeds=1, n_splits=0, theta=1.0
    )
    assert found.table["value"].tolist() == list(values)
    assert found.null is None
    assert found.parameters["theta"] == 1.0
    assert vary not in set(found.parameters) - {"vary"}
    assert found.table["mixing"].nunique() == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"key": "donor"}, "no obs column 'donor'"),
        ({"label_key": "batch"}, "both a batch column and the label"),
        ({"thetas": (1, 1)}, "twice"),
        ({"thetas": ()}, "list of values"),
        ({"thetas": (-1,)}, "theta=-1.0"),
        ({"vary": "tau"}, "choose one of theta"),
        ({"vary": "sigma"}, "list of values of sigma"),
        ({"vary": "n_clusters", "values": (5, 4000)}, "only 300 cells"),
        ({"theta": 2.0}, "varied and given"),
        ({"colour": 2}, "no parameter 'colour'"),
        ({"basis": "X_umap"}, "no embedding"),
        ({"n_seeds": 0}, "n_seeds"),
        ({"key": "one"}, "only one level"),
    ],
)
def test_sweep__refuses_before_work(given, message, monkeypatch):
    adata = simulated(300)
    adata.obs["one"] = "a"
    monkeypatch.setattr("harmonypy_lite.theta.runs.integrate_cells", None)
    with (
        pytest.warns() if given.get("key") == "one" else _nothing(),
        pytest.raises(hl.InvalidInput, match=message),
    ):
        tl.sweep_theta(adata, **{"key": "batch"} | given)


class _nothing:  # noqa: N801
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_null_calibration__of_random_batches_moves_as_the_real_run_does():
    adata = simulated(800)
    adata.obs["random"] = np.random.default_rng(3).permutation(adata.obs["batch"])
    found = tl.null_calibration(adata, "random", 3)
    assert found.real_displacement == pytest.approx(np.mean(found.displacement), rel=0.3)
    real = tl.null_calibration(adata, "batch", 1)
    assert real.real_displacement > 2 * real.displacement[0]
    assert len(found.neighbor_change) == 3


def test_null_calibration__sees_that_pooled_effects_move_less():
    adata = simulated(600)
    moved = {
        flavor: tl.null_calibration(adata, "batch", 1, "cell_type", flavor=flavor).displacement[0]
        for flavor in ("harmony2", "pooled")
    }
    assert moved["pooled"] < 0.2 * moved["harmony2"]


def test_needs_correction__finds_the_cluster_that_has_the_effect():
    adata = simulated(1500, batch_strength=0.0, n_types=3)
    kind = adata.obs["cell_type"].astype(str)
    moved = (kind == kind.unique()[0]) & (adata.obs["batch"] == adata.obs["batch"].iloc[0])
    adata.obsm["X_pca"][moved.to_numpy()] += 1.5
    found = tl.needs_correction(adata, "batch", "cell_type")
    assert found.needed
    by_type = found.clusters.set_index("cluster")
    assert by_type["p_adjusted"].idxmin() == kind.unique()[0]
    assert (by_type["effect"] > 0.05).sum() == 1


def dealt(seed):
    """Cells whose batches are dealt at random; `simulate` spreads them evenly over the types."""
    draws = np.random.default_rng(seed)
    obs = pd.DataFrame({"batch": draws.choice(["a", "b", "c"], 200)}).set_index(
        np.arange(200).astype(str)
    )
    return anndata.AnnData(obs=obs, obsm={"X_pca": draws.normal(size=(200, 5))})


def test_needs_correction__p_values_are_uniform_without_an_effect():
    p = [
        tl.needs_correction(dealt(seed), "batch", n_permutations=39, n_jobs=1).p_value
        for seed in range(30)
    ]
    assert 0.3 < np.mean(p) < 0.7
    assert np.mean(np.array(p) <= 0.1) <= 0.3


def test_diagnose__shift_is_displacement_over_spread():
    adata = simulated(600)
    rng = np.random.default_rng(0)
    push = rng.normal(size=10)
    adata.obsm["X_new"] = adata.obsm["X_pca"] + push
    found = tl.diagnose(adata, "batch", adjusted_basis="X_new", label_key="cell_type")
    groups = adata.obs["cell_type"].astype(str) + adata.obs["batch"].astype(str)
    inside = (
        adata.obsm["X_pca"]
        - pd.DataFrame(adata.obsm["X_pca"]).groupby(groups.to_numpy()).transform("mean").to_numpy()
    )
    unit = np.sqrt(np.square(inside).sum() / (600 - groups.nunique()))
    assert found.shift == pytest.approx(np.linalg.norm(push) / unit, rel=1e-4)
    assert np.array_equal(adata.obs["harmony_shift"], found.shift)
    assert not found.alarm
    assert found.composition["observed_after"].sum() == 600
    assert found.composition["expected_before"].sum() == pytest.approx(600)


@pytest.mark.parametrize("label_key", ["cell_type", None])
def test_diagnose__alarm_names_the_types_that_were_merged(label_key):
    adata = simulated(1000, n_types=4)
    kinds = adata.obs["cell_type"].astype(str)
    one, two = kinds.unique()[:2]
    merged = adata.obsm["X_pca"].copy()
    rng = np.random.default_rng(1)
    for kind in (one, two):
        own = (kinds == kind).to_numpy()
        merged[own] = merged[(kinds == one).to_numpy()].mean(axis=0) + rng.normal(
            size=(own.sum(), 10)
        )
    adata.obsm["X_merged"] = merged
    found = tl.diagnose(adata, "batch", adjusted_basis="X_merged", label_key=label_key)
    assert found.alarm
    alarmed = found.clusters[found.clusters["alarm"]]
    if label_key:
        assert one in found.reason
        assert two in found.reason
        assert set(alarmed["types"].str.split(" \\+ ").explode()) <= {one, two}
    else:
        assert len(alarmed) < len(found.clusters)


def test_diagnose__reports_confounding_and_few_levels():
    adata = simulated(600, n_batches=4)
    adata.obs["lab"] = adata.obs["batch"].astype(str)
    adata.obsm["X_new"] = adata.obsm["X_pca"]
    with pytest.warns(hl.HarmonyWarning, match="confounded"):
        found = tl.diagnose(adata, "batch", adjusted_basis="X_new", protect="lab")
    assert found.confounding["lab"]["batch"] == pytest.approx(1.0)
    apart = simulated(600, n_batches=4, batch_strength=30.0)
    apart.obsm["X_new"] = apart.obsm["X_pca"]
    few = tl.diagnose(apart, "batch", adjusted_basis="X_new").clusters
    assert few.loc[few["n_cells"] > 20, "few_levels"].all()
    json.dumps(found.to_dict(), allow_nan=False)


def test_diagnose__refuses_embeddings_of_other_shapes():
    adata = simulated(300)
    adata.obsm["X_new"] = adata.obsm["X_pca"][:, :4]
    with pytest.raises(hl.InvalidInput, match="one shape"):
        tl.diagnose(adata, "batch", adjusted_basis="X_new")


def test_varied__are_parameters():
    assert set(VARIED) <= set(hl.HarmonyParams.__dataclass_fields__)


def test_splatter_set__the_sweep_finds_the_step_from_two_to_four(real_data):
    found = tl.sweep_theta(real_data("sim_tran2020_simul1"), "batch", n_seeds=1, n_splits=0)
    assert found.recommended == 4.0
    mixing = found.table.set_index("value")["mixing"]
    assert mixing[4.0] > mixing[2.0] + 0.4


def test_cell_lines__the_sweep_is_not_lured_by_composition(real_data):
    found = tl.sweep_theta(
        real_data("cell_lines_2370"), "batch", (0, 2, 8), "cell_type", n_seeds=1, n_splits=0
    )
    chosen = found.table.set_index("value").loc[found.recommended]
    assert chosen["clisi"] > 0.98
