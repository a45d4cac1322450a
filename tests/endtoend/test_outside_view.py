"""What curl and openssl see of a running main job."""

import hashlib
import json
import subprocess
from pathlib import Path

from tests.endtoend.mesh_under_test import MakeSite, Running, Site, dte
from tests.endtoend.workspaces import toml, wait_for

FILES = toml(
    made='command = "mkdir -p out && seq 100000 > out/made"\noutputs = ["out/made"]',
    hold=f'where = "main"\ncommand = "{wait_for("go")}"\ndeps = ["made"]',
)


def running_main(site: Site) -> Running:
    """A main job with an output, that waits."""
    main = site.main("hold", "--slots", "1", "--agent-wait", "0")
    main.happens("task-delivered")
    return main


def test_curl_with_the_certificate_of_dte_cert_gets_status_and_blobs(site_of: MakeSite, tmp_path: Path) -> None:
    site = site_of(FILES)
    main = running_main(site)
    machine = site.machine("outside")
    cert = dte("cert", str(tmp_path / "cert"), cwd=machine.workspace, env=site.environ(machine))
    assert cert.returncode == 0
    assert (tmp_path / "cert/key.pem").stat().st_mode & 0o077 == 0

    def curl(path: str, *options: str) -> bytes:
        files = [f"--{option}={tmp_path}/cert/{name}.pem" for option, name in PEMS.items()]
        command = ["curl", "-sS", "--fail", "--max-time", "20", "--connect-to", f"::{site.address}", *options]
        found = subprocess.run(
            [*command, *(part for file in files for part in file.split("=", 1)), f"https://dte.invalid{path}"],
            capture_output=True,
            check=False,
        )
        assert found.returncode == 0, found.stderr
        return found.stdout

    status = json.loads(curl("/status"))
    assert (status["run_id"], status["role"]) == (site.run_id, "main")
    outputs = main.events("task-ended")[0]["outputs"]
    path = "/blob/" + outputs["digest"].replace(":", "/")
    blob = curl(path)
    assert len(blob) == outputs["size"]
    assert f"sha256:{hashlib.sha256(blob).hexdigest()}" == outputs["digest"]
    assert curl(path, "--range", "1000-1999") == blob[1000:2000]
    same = dte("status", "--peer", site.address, cwd=machine.workspace, env=site.environ(machine))
    assert (same.returncode, json.loads(same.stdout)["node_id"]) == (0, status["node_id"])
    site.tell("go")
    assert main.ended() == 0


PEMS = {"cacert": "ca", "cert": "cert", "key": "key"}


def test_openssl_without_a_certificate_is_refused_and_main_goes_on(site_of: MakeSite) -> None:
    site = site_of(FILES)
    main = running_main(site)
    command = ["openssl", "s_client", "-connect", site.address, "-alpn", "http/1.1", "-ign_eof"]
    tried = subprocess.run(
        command, input=b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n", capture_output=True, timeout=60, check=False
    )
    assert tried.returncode != 0
    assert b"certificate required" in tried.stderr + tried.stdout
    assert b"HTTP/1.1" not in tried.stdout
    main.says("127.0.0.1")
    site.tell("go")
    assert main.ended() == 0
    assert any("certificate" in notice for notice in main.json["notices"])
