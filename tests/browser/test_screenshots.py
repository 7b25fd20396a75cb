"""The command that pictures pages, as a person calls it: a process of its own, against a portal that runs."""

from __future__ import annotations

import base64
import os
import subprocess
import sys

from tests.browser.conftest import DESKTOP, PHONE, ROOT

#: Width, height, brightness (0 to 1) and number of colours of the pixels of a picture.
LOOKED_AT = """async source => {
    const picture = new Image();
    picture.src = "data:image/png;base64," + source;
    await picture.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
    const pen = canvas.getContext("2d");
    pen.drawImage(picture, 0, 0);
    const points = pen.getImageData(0, 0, canvas.width, canvas.height).data, seen = new Set();
    let sum = 0;
    for (let i = 0; i < points.length; i += 4) {
        sum += points[i] + points[i + 1] + points[i + 2];
        seen.add(points[i] << 16 | points[i + 1] << 8 | points[i + 2]);
    }
    return [canvas.width, canvas.height, sum / (points.length / 4 * 765), seen.size];
}"""


def pictured(furnished, folder, *more: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tests.browser.screenshots", str(folder), "--url", furnished.portal.url]
    return subprocess.run(
        [*command, "--user", furnished.portal.username, *more],
        cwd=ROOT,
        env=os.environ | {"LLMCOMPARE_ADMIN_PASSWORD": furnished.portal.password},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_one_page_is_pictured_on_every_asked_device_and_theme(browser, furnished, tmp_path):
    path = furnished.signed_in["host"]
    done = pictured(furnished, tmp_path, "--path", path, "--device", "desktop", "phone", "--language", "en")
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"4 pictures in {tmp_path}" in done.stdout
    stem, window = path.strip("/").replace("/", "-"), browser.new_page()
    found = {
        file.name.removeprefix(f"{stem}-"): window.evaluate(LOOKED_AT, base64.b64encode(file.read_bytes()).decode())
        for file in tmp_path.iterdir()
    }
    window.close()
    assert set(found) == {f"{device}-{theme}-en.png" for device in ("desktop", "phone") for theme in ("light", "dark")}
    for name, (width, height, brightness, colours) in found.items():
        screen = DESKTOP if name.startswith("desktop") else PHONE
        assert width == screen["width"]
        assert height >= screen["height"]
        assert brightness < 0.4 if "dark" in name else brightness > 0.7, name
        assert colours > 50, "a page, not an empty window"


def test_a_wrong_password_is_said_and_no_picture_is_left(browser, furnished, tmp_path):
    done = pictured(furnished, tmp_path, "--path", "/", "--password", "not this one")
    assert done.returncode == 1
    assert "refused the name or password" in done.stderr
    assert list(tmp_path.iterdir()) == []
