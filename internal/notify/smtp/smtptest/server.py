# An SMTP server for a test: aiosmtpd with STARTTLS (or TLS from the first byte), and a user whom it asks for. Each message goes
# into a file of its own, after the envelope. It ends with its standard input, so that it never outlives the test.
import argparse
import asyncio
import itertools
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

arguments = argparse.ArgumentParser()
for name in ("certificate", "key", "folder", "user", "password"):
    arguments.add_argument("--" + name, required=True)
arguments.add_argument("--implicit", action="store_true")
options = arguments.parse_args()

tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.load_cert_chain(options.certificate, options.key)
number = itertools.count(1)


class Keep:
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address.startswith("nobody@"):
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        path = os.path.join(options.folder, "%04d" % next(number))
        head = {"from": envelope.mail_from, "to": envelope.rcpt_tos, "user": session.auth_data.login.decode(), "tls": options.implicit or session.ssl is not None}
        with open(path + ".new", "wb") as f:
            f.write(json.dumps(head).encode() + b"\n" + envelope.content)
        os.rename(path + ".new", path)
        return "250 taken"


def authenticate(server, session, envelope, mechanism, auth_data):
    good = auth_data.login.decode() == options.user and auth_data.password.decode() == options.password
    return AuthResult(success=good, handled=False, auth_data=auth_data)


def factory():
    common = dict(hostname="mail.example.com", authenticator=authenticate, auth_required=True)
    if options.implicit:
        return SMTP(Keep(), auth_require_tls=False, **common)
    return SMTP(Keep(), tls_context=tls, require_starttls=True, **common)


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=tls if options.implicit else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


asyncio.run(main())
