"""What is no usable model ends in one sentence that says what is wrong and what to do."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import partc
from partc.errors import ModelError, PartcError, UnsupportedOpError, UsageError
from partc.passes.ingest.read_model import read_model
from partc.pipeline import Pipeline
from tests.support.nasty_models import NASTY, floats, made, parsed
from tests.support.oracle import assert_same, run_whole
from tests.support.placements import QUICK, TWO_HOSTS

GRAPH = "g (float[2,3] x) => (float[2,3] y) <float[3] w = {1, 2, 3}> {a = Add(x, w) y = Relu(a)}"


def good_bytes() -> bytes:
    data: bytes = parsed(GRAPH, {}).model.SerializeToString()
    return data


def refused(path: Path | onnx.ModelProto) -> str:
    with pytest.raises(ModelError) as caught:
        read_model(path)
    assert caught.value.exit_code == 1
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_missing_file(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "no.onnx")


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder; give an .onnx file" in refused(tmp_path)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(200)), "not an ONNX file"),
        (b"import torch\n" * 30, "not an ONNX"),
        (b"\x00" * 64, "not an ONNX"),
        (good_bytes()[:-7], "truncated"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "it has no graph"),
    ],
)
def test_a_file_that_is_no_model(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    assert says in refused(tmp_path / "m.onnx")


def test_a_model_the_checker_refuses() -> None:
    model = parsed(GRAPH, {}).model
    model.graph.node[0].input[1] = "nowhere"
    assert "refused by the ONNX checker" in refused(model)


def test_a_model_without_outputs() -> None:
    model = parsed(GRAPH, {}).model
    del model.graph.output[:]
    assert "has no outputs" in refused(model)


@pytest.mark.parametrize("domain", ["vendor.x", ""])
def test_an_op_that_no_backend_knows_is_named(domain: str, tmp_path: Path) -> None:
    kind = (TensorProto.FLOAT, (2, 3))
    opsets = {"": 17, "vendor.x": 1}
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("FancyNorm", ["a"], ["y"], name="norm_1", domain=domain),
    ]
    model = made(nodes, {"x": kind}, {"y": kind}, {}, opsets=opsets).model
    with pytest.raises((UnsupportedOpError, ModelError), match="FancyNorm") as caught:
        partc.compile(model, TWO_HOSTS, output=tmp_path / "bundle", pipeline=QUICK)
    if domain:
        assert isinstance(caught.value, UnsupportedOpError)
        assert caught.value.op == "norm_1"
        assert "'norm_1' (vendor.x.FancyNorm) is known to no backend" in caught.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(150))
def test_damaged_bytes_never_end_in_a_traceback(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    example = NASTY[draw.choice(["bodies that capture at every depth", "sparse weight", "scalars"])]
    data = bytearray(example().model.SerializeToString())
    for _ in range(draw.choice((1, 1, 3, 10))):
        data[draw.randrange(len(data))] = draw.randrange(256)
    if seed % 3 == 0:
        del data[draw.randrange(len(data)) :]
    (tmp_path / "m.onnx").write_bytes(bytes(data))
    try:
        program = read_model(tmp_path / "m.onnx")
        Pipeline.parse("infer-shapes,fold-constants,group-blocks").run(program, TWO_HOSTS)
    except PartcError as error:
        assert "defect of the pass" not in error.message
        assert len(error.message) < 2000


class TestExternalData:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "model"
        folder.mkdir()
        model = parsed(
            "g (float[2,300] x) => (float[2,300] y) <float[300] w> {a = Add(x, w) y = Relu(a)}", {}
        ).model
        del model.graph.initializer[:]
        weight = onnx.numpy_helper.from_array(floats(300), "w")
        model.graph.initializer.append(weight)
        onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="w.data")
        assert (folder / "w.data").stat().st_size >= 1200
        return folder

    def change(self, folder: Path, **entries: str | None) -> Path:
        model = onnx.load(folder / "m.onnx", load_external_data=False)
        (weight,) = model.graph.initializer
        kept = {e.key: e.value for e in weight.external_data} | entries
        del weight.external_data[:]
        for key, value in kept.items():
            if value is not None:
                weight.external_data.add(key=key, value=value)
        (folder / "m.onnx").write_bytes(model.SerializeToString())
        return folder / "m.onnx"

    def test_it_is_read(self, folder: Path) -> None:
        feeds = {"x": floats(2, 300)}
        program = read_model(folder / "m.onnx")
        assert_same(run_whole(program.model, feeds), run_whole(folder / "m.onnx", feeds))
        assert program.weights == {"w": 1200}

    def test_missing(self, folder: Path) -> None:
        (folder / "w.data").unlink()
        assert "is missing: there is no file" in refused(folder / "m.onnx")

    @pytest.mark.parametrize(
        "location", ["../w.data", "/etc/hostname", "a\\..\\w", "", "a/../../w"]
    )
    def test_outside_of_the_folder(self, folder: Path, location: str) -> None:
        (folder.parent / "w.data").write_bytes((folder / "w.data").read_bytes())
        says = refused(self.change(folder, location=location))
        assert "points outside of the model's folder" in says

    def test_a_symbolic_link(self, folder: Path) -> None:
        outside = (folder / "w.data").rename(folder.parent / "real")
        (folder / "w.data").symlink_to(outside)
        assert "is a link" in refused(folder / "m.onnx")

    def test_a_folder_that_is_a_link(self, folder: Path) -> None:
        outside = folder.parent / "outside"
        outside.mkdir()
        (folder / "w.data").rename(outside / "w.data")
        (folder / "sub").symlink_to(outside)
        assert "is a link" in refused(self.change(folder, location="sub/w.data"))

    def test_a_hard_link_is_fine_since_it_is_copied(self, folder: Path, tmp_path: Path) -> None:
        os.link(folder / "w.data", folder.parent / "second-name")
        bundle = partc.compile(
            folder / "m.onnx", TWO_HOSTS, output=tmp_path / "bundle", pipeline=QUICK
        )
        bundle.check()
        assert all(p.stat().st_nlink == 1 for p in bundle.path.rglob("*") if p.is_file())

    def test_a_device(self, folder: Path) -> None:
        os.mkfifo(folder / "pipe")
        assert "is not a plain file" in refused(self.change(folder, location="pipe"))

    @pytest.mark.parametrize(
        ("entries", "says"),
        [
            ({"offset": "5000"}, "does not fit"),
            ({"offset": "-4"}, "described wrongly"),
            ({"offset": "many"}, "described wrongly"),
            ({"offset": "9" * 60}, "described wrongly"),
            ({"length": "8"}, "described wrongly"),
        ],
    )
    def test_a_wrong_description(self, folder: Path, entries: dict[str, str], says: str) -> None:
        assert says in refused(self.change(folder, **entries))

    def test_a_length_may_be_left_out(self, folder: Path) -> None:
        assert read_model(self.change(folder, length=None)).weights == {"w": 1200}

    def test_a_file_that_was_cut(self, folder: Path) -> None:
        (folder / "w.data").write_bytes((folder / "w.data").read_bytes()[:100])
        assert "does not fit" in refused(folder / "m.onnx")

    def test_in_memory_there_is_no_folder_to_look_in(self, folder: Path) -> None:
        model = onnx.load(folder / "m.onnx", load_external_data=False)
        assert "give the model's path instead" in refused(model)


class TestShapesAndSamples:
    DYNAMIC = "g (float[N,M] x, float[N] z) => (float[N,M] y) {a = Unsqueeze(z, one) y = Mul(x, a)}"

    def told(self, **options: object) -> str:
        example = parsed(self.DYNAMIC.replace("=> (", "=> (", 1), {})
        example.model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "one"))
        with pytest.raises(UsageError) as caught:
            program = read_model(example.model, **options)  # type: ignore[arg-type]
            Pipeline.parse("infer-shapes").run(program, TWO_HOSTS)
        assert caught.value.exit_code == 2
        return caught.value.message

    def test_a_dimension_that_is_no_batch_must_be_bound(self) -> None:
        assert (
            "dimension 1 of input 'x' is dynamic (M); give --shape x=1,? with numbers"
            in self.told()
        )

    def test_shapes_that_contradict_each_other(self) -> None:
        says = self.told(bindings={"x": (2, 3), "z": (4,)})
        assert "dimension 0 of input 'z' (N) is 2, but 4 was given for it" in says

    def test_a_shape_of_another_rank(self) -> None:
        assert "has 2 dimensions, the shape given for it 3" in self.told(bindings={"x": (1, 2, 3)})

    def test_a_shape_without_elements(self) -> None:
        assert "must be at least 1, but 0 was given" in self.told(bindings={"x": (0, 3)})

    def test_a_name_that_is_no_input(self) -> None:
        assert "Did you mean 'x'" in self.told(bindings={"xx": (2, 3)})
        assert "no model input named 'q'" in self.told(sample={"q": floats(2, 3)})

    def test_a_sample_that_lacks_an_input(self) -> None:
        assert "no array for model input 'z'" in self.told(sample={"x": floats(2, 3)})

    def test_a_sample_of_another_type(self) -> None:
        sample = {"x": floats(2, 3).astype(np.float64), "z": floats(2)}
        assert "is of type float32, its array in --input of type float64" in self.told(
            sample=sample
        )

    def test_a_sample_that_contradicts_a_shape(self) -> None:
        sample = {"x": floats(2, 3), "z": floats(2)}
        assert "leave one of them out" in self.told(sample=sample, bindings={"x": (5, 3)})
