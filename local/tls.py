"""A certificate authority of this machine's own, so that receivers on loopback can speak HTTPS."""

from dataclasses import asdict, dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Tls:
    """Where the authority is, and a certificate of it for localhost and 127.0.0.1."""

    ca_file: Path
    cert_file: Path
    key_file: Path

    def as_json(self) -> dict[str, str]:
        """As `.local/stack.json` has it."""
        return {"caFile": str(self.ca_file), "certFile": str(self.cert_file), "keyFile": str(self.key_file)}


def ensure_tls(directory: Path) -> Tls:
    """The authority in `directory`, made when there is none."""
    tls = Tls(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    if all(path.exists() for path in asdict(tls).values()):
        return tls
    directory.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(organization_name="LMS Webhooks, this machine only")
    server = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(tls.ca_file))
    server.private_key_pem.write_to_path(str(tls.key_file))
    server.cert_chain_pems[0].write_to_path(str(tls.cert_file))
    tls.key_file.chmod(0o600)
    return tls
