#!/bin/sh
# A node of the lab of deploy/compose.yaml: an SSH server of this user, who trusts the key that the centre has put into /keys.
set -eu
home=/tmp/ssh
mkdir -p "$home" /run/sshd 2>/dev/null || mkdir -p "$home"
[ -f "$home/host_key" ] || ssh-keygen -q -t ed25519 -N "" -f "$home/host_key"
printf '[%s]:2222 %s\n' "$(hostname)" "$(cut -d ' ' -f 1,2 "$home/host_key.pub")" > "/keys/hosts/$(hostname)"
until [ -f /keys/centre.pub ]; do sleep 1; done
cp /keys/centre.pub "$home/authorized_keys"
chmod 600 "$home/authorized_keys"
exec /usr/sbin/sshd -D -e -p 2222 -h "$home/host_key" -o PidFile=none -o UsePAM=no -o PasswordAuthentication=no \
  -o StrictModes=no -o AuthorizedKeysFile="$home/authorized_keys" -o Subsystem="sftp internal-sftp" -o SetEnv=PATH="$PATH"
