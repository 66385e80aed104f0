import warnings
from pathlib import Path

import pytest
from joblib import Parallel, delayed

from skxmc._utils.warnings import warn_user


def test_warn_user_direct_call_names_own_line():
    with pytest.warns(UserWarning, match="odd") as warned:
        warn_user("odd")
    assert [Path(warning.filename).name for warning in warned] == [Path(__file__).name]


@pytest.mark.parametrize("call", [lambda f: f(), lambda f: Parallel()([delayed(f)()])])
def test_warn_user_call_from_skxmc_or_joblib_names_outer_line(tmp_path, call):
    # The name of its file makes the warning module one of skxmc.
    import skxmc

    inside = Path(skxmc.__file__).with_name("_inside.py")
    namespace = {"warn_user": warn_user}
    exec(compile("def f():\n    warn_user('odd')\n", str(inside), "exec"), namespace)
    with pytest.warns(UserWarning, match="odd") as warned:
        call(namespace["f"])
    assert [Path(warning.filename).name for warning in warned] == [Path(__file__).name]


def test_warn_user_without_outer_frame_still_warns():
    import skxmc

    inside = str(Path(skxmc.__file__).with_name("_inside.py"))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        exec(compile("warn_user('odd')", inside, "exec"), {"warn_user": warn_user})
    assert [str(warning.message) for warning in warned] == ["odd"]
