"""A certificate authority for one member, made with the `openssl` program; its keys live in its folder."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_CONFIGURATION = """\
[req]
distinguished_name = name
x509_extensions = authority
[name]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign, digitalSignature
subjectKeyIdentifier = hash
[client]
extendedKeyUsage = clientAuth
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[server]
extendedKeyUsage = serverAuth
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1, DNS:localhost, DNS:kubernetes, DNS:kubernetes.default, DNS:kubernetes.default.svc
"""
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_DAYS = ("-days", "365", "-sha256")


class OpensslError(Exception):
    """`openssl` is missing or refused; the text says which and what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Paths of a PEM certificate and of its PKCS #8 key."""

    cert: Path
    key: Path


class Authority:
    """A CA in a folder; `issue` signs with it."""

    def __init__(self, folder: Path, name: str) -> None:
        """Make the CA's key and certificate (`ca.crt`, `ca.key`) in `folder`, which is created for the owner alone."""
        folder.mkdir(mode=0o700, parents=True)
        self._folder = folder
        self._configuration = folder / "openssl.cnf"
        self._configuration.write_text(_CONFIGURATION)
        self.certificate = Certificate(cert=folder / "ca.crt", key=folder / "ca.key")
        self._request(self.certificate.key, f"/CN={name}", "-x509", *_DAYS, "-out", str(self.certificate.cert))

    def client(self, name: str, common_name: str, organization: str | None = None) -> Certificate:
        """Issue a client certificate; Kubernetes reads user and group from common name and organization."""
        subject = f"/O={organization}/CN={common_name}" if organization else f"/CN={common_name}"
        return self._issue(name, subject, "client")

    def server(self, name: str) -> Certificate:
        """Issue a serving certificate for 127.0.0.1 and localhost."""
        return self._issue(name, f"/CN={name}", "server")

    def key(self, name: str) -> Path:
        """Make a bare key, as service account tokens are signed with."""
        path = self._folder / f"{name}.key"
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path))
        return path

    def _issue(self, name: str, subject: str, section: str) -> Certificate:
        issued = Certificate(cert=self._folder / f"{name}.crt", key=self._folder / f"{name}.key")
        request = self._request(issued.key, subject, "-new")
        signer = ("-CA", str(self.certificate.cert), "-CAkey", str(self.certificate.key), "-CAcreateserial")
        extensions = ("-extfile", str(self._configuration), "-extensions", section)
        _openssl("x509", "-req", *signer, *_DAYS, *extensions, "-out", str(issued.cert), given=request)
        return issued

    def _request(self, key: Path, subject: str, *options: str) -> bytes:
        where = ("-config", str(self._configuration), "-keyout", str(key), "-subj", subject)
        return _openssl("req", *_NEW_KEY, *where, *options)


def es256(key: Path, data: bytes) -> bytes:
    """Sign as a JSON Web Token is signed with a key of P-256: the numbers r and s, 32 bytes each (RFC 7518)."""
    der = _openssl("dgst", "-sha256", "-sign", str(key), given=data)
    start, numbers = 2, []  # a DER sequence of two integers, each with its length before it, all below 128
    for _ in range(2):
        length = der[start + 1]
        numbers.append(int.from_bytes(der[start + 2 : start + 2 + length]))
        start += 2 + length
    return b"".join(number.to_bytes(32) for number in numbers)


def _openssl(*arguments: str, given: bytes = b"") -> bytes:
    program = shutil.which("openssl")
    if program is None:
        raise OpensslError("no openssl on the PATH; the test control planes need it for their certificates")
    done = subprocess.run([program, *arguments], input=given, capture_output=True, check=False)
    if done.returncode:
        raise OpensslError(f"openssl {arguments[0]} failed: {done.stderr.decode(errors='replace')}")
    return done.stdout
