#!/bin/sh
# The control centre of the lab of deploy/compose.yaml: makes its key, waits until all nodes have told theirs, and runs the command.
set -eu
ssh=/work/.ssh
mkdir -p "$ssh"
python3 - "$ssh/id_ed25519" /keys/centre.pub <<'PYTHON'
import os, sys
import asyncssh
private, public = sys.argv[1:]
if not os.path.exists(private):
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(private)
    os.chmod(private, 0o600)
asyncssh.read_private_key(private).write_public_key(public + ".part")
os.rename(public + ".part", public)
PYTHON
until [ "$(find /keys/hosts -type f | wc -l)" -ge "${PACELINE_NODES:-4}" ]; do sleep 1; done
mkdir -p "$HOME/.ssh"
cat /keys/hosts/* > "$HOME/.ssh/known_hosts"
cp /etc/paceline/nodes.toml /work/nodes.toml
exec "$@"
