"""Models that people made, for the clean sample: from a furniture library of Sweet Home 3D (Debian: sweethome3d-furniture).

python regression/tests/by_people.py read LIBRARY.sh3f FOLDER [--licence CC-BY]   # every usable model of it as a GLB
python regression/tests/by_people.py pack LIBRARY.sh3f            # those that the package holds, with their credits
python regression/tests/by_people.py judge FOLDER OUT --jobs 16   # through the road, twice, and what the gates say
python regression/tests/by_people.py alone FOLDER OUT --jobs 16   # any GLBs as they are, without a golden

A model is usable when the licence file beside it says Creative Commons Zero (or what was asked for) and it has at most
`MOST_FACES` faces. Only those under CC0 are packed; others are only measured.
"""

import argparse
import hashlib
import html
import io
import json
import re
import struct
import tempfile
import zipfile
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from trellis_regression import gate, matrix, profile, thresholds
from trellis_regression.asset import Asset
from trellis_regression.parallel import spread
from trellis_regression.sample import people

LICENCES = {
    "CC0": re.compile(r"Creative Commons Zero|CC-?0|CC Zero"),
    "CC-BY": re.compile(r"Creative Commons Attribution(?! Share| Non|-)|CC-BY(?!-)"),
}
MOST_FACES = 20_000
TEXTURE = 256

CHOSEN = {
    "basketball": "basketball", "bread": "bread", "boot": "bootie", "chicken": "chicken",
    "deck chair": "deckChair", "desk lamp": "desklamp", "fork lift": "forkLift", "horse": "horse2",
    "plant": "littlePlant", "piano by hand": "pianoAQueue", "rock": "rock1",
    "scissors": "cissors_swap", "stone lantern": "lantern", "tablecloth": "tableWithTablecloth",
    "umbrella": "umbrella", "baby bottle": "mamadeira",
}  # fmt: skip
"""Names in the sample -> folders of the library; chosen by kind, size and licence, before any gate had seen one."""


def models(library):
    """Each model's folder, OBJ path, and what its catalogue and its licence file say of it."""
    catalogue = {}
    for line in library.read("PluginFurnitureCatalog.properties").decode("latin-1").splitlines():
        if found := re.match(r"(\w+)#(\d+)=(.*)", line):
            catalogue.setdefault(int(found[2]), {})[found[1]] = found[3].strip()
    for entry in catalogue.values():
        path = entry["model"].lstrip("/")
        folder = path.rsplit("/", 1)[0]
        texts = [
            library.read(n).decode("latin-1")
            for n in library.namelist()
            if n.startswith(folder + "/") and "licen" in n.lower()
        ]
        said = " ".join(html.unescape(re.sub(r"<style.*?</style>|<[^>]+>", " ", " ".join(texts), flags=re.S)).split())
        named = (re.search(p, said) for p in ('Thank you for downloading "(.*?)"', 'About "(.*?)":', "^(.*?) by "))
        url = re.search(r"https?://(?:www\.)?blendswap\.com/blends?/(?:view/)?\d+", " ".join(texts))
        number = re.search(r"#?(\d{5}) - ", said)
        yield {
            "folder": folder.rsplit("/", 1)[1], "path": path,
            "licences": [name for name, words in LICENCES.items() if words.search(said)],
            "title": next((m[1] for m in named if m), entry["name"]),
            "author": entry["creator"],
            "url": url[0] if url else f"https://www.blendswap.com/blend/{number[1]}" if number else "",
        }  # fmt: skip


def _materials(text, folder):
    found, name = {}, ""
    for words in (line.split(maxsplit=1) for line in text.splitlines() if line.strip()):
        key, rest = words[0], words[1].strip() if len(words) > 1 else ""
        if key == "newmtl":
            name = rest
            found[name] = {"colour": (0.8, 0.8, 0.8), "alpha": 1.0, "shine": 10.0, "picture": None}
        elif key == "Kd":
            found[name]["colour"] = tuple(map(float, rest.split()[:3]))
        elif key == "d":
            found[name]["alpha"] = float(rest)
        elif key == "Ns":
            found[name]["shine"] = float(rest)
        elif key == "map_Kd":
            picture = folder / rest
            found[name]["picture"] = picture if picture.is_file() else None  # some name files of their author's disk
    return found


def _read_obj(path):
    """Material name -> corners [3F] of (position, uv), fans of polygons cut into triangles."""
    positions, uvs, corners, material = [], [], {}, ""
    for line in path.read_text("latin-1").splitlines():
        key, _, rest = line.strip().partition(" ")
        if key == "v":
            positions.append([float(x) for x in rest.split()[:3]])
        elif key == "vt":
            uvs.append([float(x) for x in rest.split()[:2]])
        elif key == "usemtl":
            material = rest.strip()
        elif key == "f":
            at = []
            for corner in rest.split():
                v, _, t = corner.partition("/")
                t = t.partition("/")[0]
                at.append((_index(v, positions), _index(t, uvs) if t else -1))
            for k in range(1, len(at) - 1):
                corners.setdefault(material, []).extend((at[0], at[k], at[k + 1]))
    uvs.append([0.0, 0.0])  # -1: none
    return np.array(positions), np.array(uvs), corners


def _index(text, things):
    return int(text) - 1 if int(text) > 0 else len(things) + int(text)


def _linear(colour):
    c = np.clip(colour, 0, 1)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4).tolist()


def glb(obj):
    """A model as GLB: its triangles unchanged, pictures no larger than `TEXTURE`, one primitive a material.

    A material's colour counts only where it has no picture, as in Sweet Home 3D. Returns the bytes and the face count.
    """
    positions, uvs, corners = _read_obj(obj)
    libraries = "\n".join(p.read_text("latin-1") for p in sorted(obj.parent.glob("*.mtl")))
    materials = _materials(libraries, obj.parent)
    parts, views, accessors, images, primitives, written = [], [], [], [], [], []

    def add(data, **accessor):
        views.append({"buffer": 0, "byteOffset": sum(map(len, parts)), "byteLength": len(data)})
        parts.append(data + b"\0" * (-len(data) % 4))
        if accessor:
            accessors.append({"bufferView": len(views) - 1, **accessor})
        return len(accessors) - 1 if accessor else len(views) - 1

    faces = 0
    for name, ends in corners.items():
        m = materials.get(name, {"colour": (0.8, 0.8, 0.8), "alpha": 1.0, "shine": 10.0, "picture": None})
        picture = m["picture"]
        ends = np.array(ends).reshape(-1, 3, 2)
        p = positions[ends[..., 0]]
        ends = ends[np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1) > 0]
        if not len(ends):
            continue
        faces += len(ends)
        if picture is None:
            ends[..., 1] = -1
        unique, index = np.unique(ends.reshape(-1, 2), axis=0, return_inverse=True)
        at = positions[unique[:, 0]].astype("<f4")
        kind = "<u2" if len(unique) < 65536 else "<u4"
        attributes = {"POSITION": add(
            at.tobytes(), componentType=5126, count=len(at), type="VEC3", min=at.min(0).tolist(), max=at.max(0).tolist()
        )}  # fmt: skip
        look = {"metallicFactor": 0.0, "roughnessFactor": round(float(np.sqrt(2 / (m["shine"] + 2))), 3)}
        if picture is None:
            look["baseColorFactor"] = [*_linear(m["colour"]), m["alpha"]]
        else:
            uv = (uvs[unique[:, 1]] * [1, -1] + [0, 1]).astype("<f4")
            attributes["TEXCOORD_0"] = add(uv.tobytes(), componentType=5126, count=len(uv), type="VEC2")
            if picture not in images:
                images.append(picture)
            look |= {"baseColorTexture": {"index": images.index(picture)}, "baseColorFactor": [1, 1, 1, m["alpha"]]}
        written.append({"name": name, "pbrMetallicRoughness": look, "doubleSided": True})
        if m["alpha"] < 1:
            written[-1]["alphaMode"] = "BLEND"
        primitives.append({
            "attributes": attributes, "material": len(written) - 1,
            "indices": add(index.reshape(-1).astype(kind).tobytes(), componentType=5123 if kind == "<u2" else 5125,
                           count=index.size, type="SCALAR"),
        })  # fmt: skip
    stored = []
    for path in images:
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((TEXTURE, TEXTURE), Image.Resampling.LANCZOS)
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=80, optimize=True)
        stored.append({"bufferView": add(data.getvalue()), "mimeType": "image/jpeg"})
    head = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": primitives}], "materials": written, "accessors": accessors, "bufferViews": views,
        "buffers": [{"byteLength": sum(map(len, parts))}],
    }  # fmt: skip
    if stored:
        textures = [{"source": i, "sampler": 0} for i in range(len(stored))]
        head |= {"images": stored, "samplers": [{}], "textures": textures}
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    body = b"".join(parts)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(body), 0x004E4942) + body
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks, faces


def usable(file, wanted=None, licence="CC0"):
    """(facts, GLB) of each usable model of a library, in the catalogue's order, or of the wanted folders only."""
    with zipfile.ZipFile(file) as library, tempfile.TemporaryDirectory() as folder:
        library.extractall(folder)
        for facts in models(library):
            if wanted is not None and facts["folder"] not in wanted:
                continue
            if licence not in facts["licences"]:
                print(f"{facts['folder']}: no licence file beside it says {licence}; left out")
                continue
            data, faces = glb(Path(folder, facts["path"]))
            if faces <= MOST_FACES:
                yield facts | {"faces": faces}, data
            else:
                print(f"{facts['folder']}: {faces} faces; left out")


def read(file, folder, licence):
    folder.mkdir(parents=True, exist_ok=True)
    for facts, data in usable(file, licence=licence):
        (folder / f"{facts['folder']}.glb").write_bytes(data)


def pack(file):
    """Writes the chosen models and who made them into the package."""
    where = {folder: name for name, folder in CHOSEN.items()}
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    made = {}
    for facts, data in usable(file, where):
        name = where[facts["folder"]]
        (people.FOLDER / f"{name.replace(' ', '-')}.glb").write_bytes(data)
        made[name] = {
            **{k: facts[k] for k in ("title", "author", "url")}, "license": "CC0-1.0",
            "library": file.name, "library_sha256": digest, "path": facts["path"],
            "sha256": hashlib.sha256(data).hexdigest(),
        }  # fmt: skip
    (people.FOLDER / "credits.json").write_text(json.dumps({n: made[n] for n in CHOSEN}, indent=1) + "\n")


def _source(folder, name):
    return (folder / f"{name}.glb").read_bytes()


def _judged(road, out, profiles, name):
    """What the gates say of one model, by profile, and the figures."""
    try:
        control = matrix.make_control(road, out, name)
    except ValueError as error:
        return name, {"failed": [str(error)]}, {}
    evidence = control.evidence(looks=matrix.QUICK_LOOK)
    said = {p: [x.sentence for x in gate.judge(evidence, thresholds.load(p)).fired] for p in profiles}
    return name, said, {" ".join(which): value for which, value in matrix.figures_of(evidence).items()}


def _alone(folder, profiles, name):
    """`_judged` of a file as it is."""
    try:
        evidence = profile.gather(Asset.read(folder / f"{name}.glb"), looks=profile.Looks(views=()))
    except ValueError as error:
        return name, {"failed": [str(error)]}, {}
    said = {p: [x.sentence for x in gate.judge(evidence, thresholds.load(p)).fired] for p in profiles}
    return name, said, {" ".join(which): value for which, value in matrix.figures_of(evidence).items()}


def judge(folder, out, jobs, alone):
    road = matrix.load_road("trellis_pipeline.gating")
    road = type(road)(partial(_source, folder))
    names = sorted(p.stem for p in folder.glob("*.glb"))
    profiles = ("default", "strict")
    work = partial(_alone, folder, profiles) if alone else partial(_judged, road, out, profiles)
    flagged = Counter()
    with (out / "judged.jsonl").open("w") as file:
        for name, said, figures in spread(work, names, jobs):
            file.write(json.dumps([name, said, figures]) + "\n")
            file.flush()
            flagged.update(p for p, sentences in said.items() if sentences)
            for sentence in said.get("default", said.get("failed", [])):
                print(f"{name}: {sentence}", flush=True)
    print(f"{len(names)} models, flagged: {dict(flagged)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("read", "pack", "judge", "alone"))
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--licence", choices=LICENCES, default="CC0")
    given = parser.parse_args()
    if given.command == "read":
        read(*given.paths, given.licence)
    elif given.command == "pack":
        pack(*given.paths)
    else:
        given.paths[1].mkdir(parents=True, exist_ok=True)
        judge(*given.paths, given.jobs, given.command == "alone")
