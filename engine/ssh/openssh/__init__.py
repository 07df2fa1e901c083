"""The files of OpenSSH that decide whom one talks to: configurations, known hosts, revoked keys."""
