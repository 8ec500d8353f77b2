"""Goal: libstele is a library that somebody else can use: installed, found by pkg-config, compiled against with its public headers
alone, put and get through opaque handles."""
import os
import subprocess

from cluster import BIN, Case, main, run

PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <net/client/stele.h>
#include <net/client/version.h>

int main(int argc, char **argv)
{
	struct stele *s;
	struct stele_open_opts opts = {.cluster = argv[1]};
	struct stele_put_result put;
	char id[STELE_ID_TEXT];
	unsigned char *bytes;
	size_t len;
	if (argc != 2 || stele_open(&opts, &s) != STELE_OK) {
		fprintf(stderr, "%s\n", stele_detail());
		return 1;
	}
	enum stele_err err = stele_put_bytes(s, "by the library", 14, NULL, &put);
	if (err == STELE_OK)
		err = stele_get_bytes(s, &put.object, 100, &bytes, &len);
	if (err == STELE_OK && (len != 14 || memcmp(bytes, "by the library", 14) != 0))
		return 2;
	if (err != STELE_OK)
		fprintf(stderr, "%s\n", stele_detail());
	else
		printf("%s %s\n", stele_version(), stele_id_text(&put.object, id));
	if (err == STELE_OK)
		free(bytes);
	stele_close(s);
	return err != STELE_OK;
}
"""


class Library(Case):
    nodes, code = 3, "rs-2-1"

    def test_installed_library(self):
        c = self.cluster
        prefix = os.path.join(c.dir, "installed")
        build = os.path.dirname(os.path.abspath(BIN))
        self.ok(run("cmake", "--install", build, "--prefix", prefix))
        libdir = [d for d, _, names in os.walk(prefix) if "libstele.so" in names][0]
        env = {"PKG_CONFIG_PATH": os.path.join(libdir, "pkgconfig"), "LD_LIBRARY_PATH": libdir}
        source = c.file("use.c", PROGRAM.encode())
        program = os.path.join(c.dir, "use")
        # --prefix at install time: pkg-config is told where it went
        flags = run("pkg-config", "--define-variable=prefix=" + prefix, "--define-variable=libdir=" + libdir,
                    "--define-variable=includedir=" + os.path.join(prefix, "include", "stele"), "--cflags", "--libs",
                    "libstele", env=env)
        self.ok(flags)
        self.ok(run("gcc", "-std=gnu11", "-Wall", "-Werror", source, "-o", program, *flags.out.decode().split()))
        needed = subprocess.check_output(["ldd", os.path.join(libdir, "libstele.so")]).decode()
        asan = [line.split()[2] for line in needed.splitlines() if "libasan" in line]
        if asan:  # built for the sanitizer, and used by a program that is not
            env["LD_PRELOAD"] = asan[0]
        r = self.ok(run(program, os.path.join(c.path, "cluster.json"), env=env))
        self.assertIn(b"sha256:", r.out)
        self.assertNotIn("leveldb", needed, "the library never links the store or its index")


if __name__ == "__main__":
    main()
