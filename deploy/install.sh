#!/bin/sh
# Installs Paceline into /opt/paceline from the checkout it is called in: VARIANT (cpu, cuda, centre), WHEELS, TORCH_INDEX.
set -eu
variant=$1 wheels=$2 torch_index=$3
case $variant in
  cpu | cuda) extras="[training,data,kubernetes]" ;;
  centre) extras="[kubernetes]" ;;
  *) echo "VARIANT is $variant: expected cpu, cuda or centre" >&2; exit 2 ;;
esac
if [ -d "$wheels" ]; then
  set -- --no-index --find-links "$wheels"
elif [ "$variant" = cpu ] && [ -n "$torch_index" ]; then
  set -- --extra-index-url "$torch_index"
else
  set --
fi
/opt/paceline/bin/python -m pip install --no-cache-dir --disable-pip-version-check "$@" -c constraints.txt ".$extras"
find /opt/paceline -type d -name __pycache__ -prune -exec rm -rf {} +
/opt/paceline/bin/python -m pip uninstall --yes --quiet pip setuptools
