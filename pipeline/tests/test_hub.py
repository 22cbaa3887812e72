"""Files of hub repositories: pins, caches, and a hub that cannot be reached."""

import hashlib
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest
import torch
from trellis_pipeline import Pipeline, hub
from trellis_pipeline.checkpoint import open_checkpoint
from trellis_pipeline.cli import main
from trellis_pipeline.errors import CheckpointError
from trellis_pipeline.generation import TYPES
from trellis_pipeline.hub import REVISIONS, HubUnreachableError, connection_error, fetch
from trellis_pipeline.image import load_image_encoder, prepare
from trellis_pipeline.testing import object_picture

client = pytest.importorskip("huggingface_hub")
STEM = "ckpts/slat_flow_img2shape_dit_1_3B_512_bf16"
ROLE = "shape_slat_flow_model_512"
TRELLIS, DECODER, DINO = REVISIONS


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub's client, which finds the hub's address closed and may not wait."""

    def wait(seconds):
        raise AssertionError(f"waited {seconds} s")

    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(client.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(client.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(client.constants, "ENDPOINT", "http://127.0.0.1:1")  # nothing listens there
    monkeypatch.setattr(time, "sleep", wait)
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
    return folder


def put(cache, repository, name, content, revision):
    """A file as the client keeps it: a blob named by its hash, and a link to it in the revision's snapshot."""
    root = cache / f"models--{repository.replace('/', '--')}"
    blob = root / "blobs" / hashlib.sha256(content).hexdigest()
    link = root / "snapshots" / revision / name
    blob.parent.mkdir(parents=True, exist_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.symlink_to(Path(*[".."] * (len(link.relative_to(root).parts) - 1)) / blob.relative_to(root))
    return link


def fill(cache, folder):
    """The cache of someone who ran the tiny checkpoint as if it were the public one."""
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        repository, name = TRELLIS, file.relative_to(folder).as_posix()
        if name.startswith("dinov3/"):
            repository, name = DINO, file.name
        if file.stem.startswith("ss_dec"):
            repository = DECODER
        content = file.read_bytes()
        if name == "pipeline.json":
            content = content.replace(b'"dinov3"', f'"{DINO}"'.encode())
        put(cache, repository, name, content, REVISIONS[repository])


def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("asked the network")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("offline", [False, True])
def test_a_cache_with_the_pinned_revisions_needs_no_network(cache, checkpoint_folder, monkeypatch, offline):
    fill(cache, checkpoint_folder)
    monkeypatch.setattr(client.constants, "HF_HUB_OFFLINE", offline)
    no_network(monkeypatch)
    pipeline = Pipeline.from_pretrained(TRELLIS, type="512", device="cpu")
    picture = prepare(object_picture(), None)
    with pipeline._weights["image_encoder"].on(torch.device("cpu"), "swap") as model:
        assert pipeline.encoder.encode(model, picture.image, 64, torch.device("cpu")).shape == (1, 21, 32)


def test_an_unreachable_hub_is_said_at_once_and_with_what_to_do(cache, tmp_path, capsys):
    object_picture().save(tmp_path / "o.png")
    status = main(["generate", str(tmp_path / "o.png"), "-o", str(tmp_path / "o.glb"), "--device", "cpu"])
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("trellis: error:")]
    assert status == 2 and not (tmp_path / "o.glb").exists()
    for part in ("pipeline.json is not in the local cache", "cannot be reached (127.0.0.1: Connection refused)",
                 f"https://huggingface.co/{TRELLIS}", "--weights DIR"):  # fmt: skip
        assert part in line


def test_all_files_that_an_unreachable_hub_keeps_are_named_by_repository(cache, checkpoint_folder, monkeypatch):
    fill(cache, checkpoint_folder)
    shutil.rmtree(cache / f"models--{DECODER.replace('/', '--')}")
    for name in (STEM, "ckpts/tex_dec_next_dc_f16c32_fp16"):
        (cache / f"models--{TRELLIS.replace('/', '--')}/snapshots/{REVISIONS[TRELLIS]}/{name}.safetensors").unlink()
    tried = []
    monkeypatch.setattr(hub, "connection_error", lambda *_: tried.append(1) or "no route")
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(TRELLIS).files(TYPES["512"].roles)
    text = str(error.value)
    assert len(tried) == 1  # not once for each file
    assert f"{DECODER}: ckpts/ss_dec_conv3d_16l8_fp16.json is not" in text
    assert f"{TRELLIS}: {STEM}.safetensors, ckpts/tex_dec_next_dc_f16c32_fp16.safetensors are not" in text


@pytest.mark.parametrize("repository", [DINO, "a/b"])
def test_the_message_names_the_option_and_what_needs_no_approval(cache, repository):
    with pytest.raises(HubUnreachableError, match=f"https://huggingface.co/{repository}") as error:
        fetch(repository, "config.json")
    dino = repository == DINO
    assert (
        ("--image-encoder DIR" in str(error.value))
        == ("timm/vit_large_patch16_dinov3.lvd1689m" in str(error.value))
        == dino
    )


def test_offline_is_taken_at_its_word(cache, monkeypatch):
    no_network(monkeypatch)
    monkeypatch.setattr(client.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnreachableError, match="HF_HUB_OFFLINE is set"):
        fetch("a/b", "config.json")


def test_branches_in_the_cache_serve_where_the_hub_cannot_be_asked(cache, monkeypatch):
    commit = "1" * 40
    link = put(cache, "a/b", "config.json", b"{}", commit)
    (cache / "models--a--b/refs").mkdir()
    (cache / "models--a--b/refs/main").write_text(commit)
    assert fetch("a/b", "config.json") == link
    with pytest.raises(HubUnreachableError):
        fetch("a/b", "config.json", "other")
    newer = []
    with socket.create_server(("127.0.0.1", 0)) as server:  # where something listens, the client asks for news
        monkeypatch.setattr(client.constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(client, "hf_hub_download", lambda *a, **k: newer.append((a, k)) or str(link))
        assert fetch("a/b", "config.json") == link
    assert newer == [(("a/b", "config.json"), {"revision": None})]


def test_a_name_server_that_does_not_answer_is_not_waited_for(monkeypatch):
    never = threading.Event()

    def create_connection(*_, **__):
        never.wait()
        raise OSError

    monkeypatch.setattr(socket, "create_connection", create_connection)
    assert connection_error("hub.example", 443, 0.05) == "hub.example: no answer in 0.05 s"
    never.set()


@pytest.mark.parametrize(
    ("proxies", "asked"),
    [
        ({}, ("hub.example", 443)),
        ({"https": "http://proxy.example:3128"}, ("proxy.example", 3128)),
        ({"https": "proxy.example:3128"}, ("proxy.example", 3128)),
        ({"all": "socks5://proxy.example"}, ("proxy.example", 1080)),
    ],
)
def test_where_a_proxy_stands_before_the_hub_it_is_what_must_listen(cache, monkeypatch, proxies, asked):
    seen = []
    monkeypatch.setattr(client.constants, "ENDPOINT", "https://hub.example")
    monkeypatch.setattr(hub.urllib.request, "getproxies", lambda: proxies)
    monkeypatch.setattr(hub.urllib.request, "proxy_bypass", lambda host: False)
    monkeypatch.setattr(hub, "connection_error", lambda host, port, _: seen.append((host, port)) or "closed")
    with pytest.raises(HubUnreachableError, match="closed"):
        fetch("a/b", "config.json")
    assert seen == [asked]


def test_hub_files_are_taken_at_pinned_revisions(cache, monkeypatch, checkpoint_folder):
    asked = []

    def download(repository, name, revision):
        asked.append((repository, name, revision))
        local = checkpoint_folder / name
        assert local.is_file()
        return str(local)

    monkeypatch.setattr(hub, "_unreachable", lambda _: None)
    monkeypatch.setattr(client, "hf_hub_download", download)
    opened = open_checkpoint("microsoft/TRELLIS.2-4B")
    opened.files([ROLE, "sparse_structure_decoder"])
    pins = REVISIONS
    assert ("microsoft/TRELLIS.2-4B", f"{STEM}.safetensors", pins["microsoft/TRELLIS.2-4B"]) in asked
    decoder = "ckpts/ss_dec_conv3d_16l8_fp16.json"
    assert ("microsoft/TRELLIS-image-large", decoder, pins["microsoft/TRELLIS-image-large"]) in asked
    asked.clear()
    open_checkpoint("microsoft/TRELLIS.2-4B", "0" * 40)
    assert asked[0][2] == "0" * 40


def test_gated_and_absent_repositories_say_what_to_do(cache, monkeypatch):
    monkeypatch.setattr(hub, "_unreachable", lambda _: None)

    def refuse(kind):
        def download(*_, **__):
            raise kind.__new__(kind)  # its __init__ wants a response of the network library

        monkeypatch.setattr(client, "hf_hub_download", download)

    refuse(client.errors.GatedRepoError)
    name = "facebook/dinov3-vitl16-pretrain-lvd1689m"
    with pytest.raises(CheckpointError, match=f"https://huggingface.co/{name}.*timm/vit_large_patch16_dinov3"):
        fetch(name, "config.json")
    refuse(client.errors.LocalEntryNotFoundError)
    with pytest.raises(CheckpointError, match="the hub cannot be reached"):
        fetch("a/b", "config.json")


def test_what_is_no_name_at_all_is_refused(cache):
    with pytest.raises(CheckpointError, match="no/such/folder: neither a folder nor a hub id"):
        load_image_encoder("no/such/folder")
