"""A DNS server (dnsmasq) for names that change.

    names = NameServer("10.9.0.1", folder, search="orrery.svc")   # this mount namespace resolves by it from now on
    names.set("expert-0.expert", "10.9.0.11")
    names.drop("expert-0.expert")                                  # NXDOMAIN
    names.stop(); names.start()                                    # nobody answers meanwhile

It forgets nothing and caches nothing: what was set is what the next question is told.
Raises cases.Skip without dnsmasq.
"""

import shutil
import signal
import socket
import subprocess
import time

from cases import Skip

START_TIMEOUT_S = 10


class NameServer:
    def __init__(self, address, folder, search):
        if shutil.which("dnsmasq") is None:
            raise Skip("there is no dnsmasq: apt-get install dnsmasq-base")
        self._address = address
        self._search = search
        self._addresses = {}
        self._hosts = folder / "hosts"
        self._log = open(folder / "dnsmasq.log", "ab")
        self._process = None
        resolv_conf = folder / "resolv.conf"
        # As kubelet writes it, so that short names go through the search list.
        resolv_conf.write_text(f"nameserver {address}\nsearch {search} svc.cluster.local\noptions ndots:5\n")
        subprocess.run(["mount", "--bind", resolv_conf, "/etc/resolv.conf"], check=True)
        self._write()
        self.start()

    def start(self):
        self._process = subprocess.Popen(
            ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", f"--listen-address={self._address}",
             "--bind-interfaces", "--no-resolv", "--no-hosts", "--cache-size=0", "--local=/#/",
             f"--addn-hosts={self._hosts}", "--log-queries"],
            stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex((self._address, 53)) == 0:
                    return
            time.sleep(0.02)
        raise Skip(f"dnsmasq does not answer at {self._address}: see {self._log.name}")

    def stop(self):
        self._process.terminate()
        self._process.wait()

    def set(self, name, address):
        self._addresses[name] = address
        self._write()

    def drop(self, name):
        del self._addresses[name]
        self._write()

    def _write(self):
        lines = [f"{address} {name}.{self._search}\n" for name, address in self._addresses.items()]
        new = self._hosts.with_suffix(".new")
        new.write_text("".join(lines))
        new.rename(self._hosts)
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)  # reads the hosts again
