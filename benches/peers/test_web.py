"""What web.py makes of what h2load tells it: `python3 -m unittest benches/peers/test_web.py`."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import proxy
import tables
import web
import web_configs

SAID = """
requests: 64 total, 64 started, 64 done, 64 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 64 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 17.31KB (17728) total, 3.13KB (3200) headers (space savings 0.00%), 12.50KB (12800) data
"""


class Web(unittest.TestCase):
    def test_answers_in_full_are_in_order(self):
        self.assertIsNone(web.disagrees(SAID, 64, 200))

    def test_lost_failed_and_short_answers_are_told(self):
        self.assertIn("64 succeeded", web.disagrees(SAID, 65, 200))
        failed = SAID.replace("64 2xx, 0 3xx, 0 4xx, 0 5xx", "60 2xx, 0 3xx, 0 4xx, 4 5xx")
        self.assertIn("60 2xx", web.disagrees(failed, 64, 200))
        self.assertIn("12800", web.disagrees(SAID, 64, 201))
        self.assertIsNotNone(web.disagrees("", 64, 200))

    def test_requests_count_when_they_end(self):
        lines = ["100\t200\t50", "100\t200\t900", "500\t200\t20", "960\t200\t60"]
        self.assertEqual(web.within(lines, 200, 1000), [20])
        self.assertEqual(web.within(lines, 150, 1001), [20, 50, 900])

    def test_a_failed_request_or_none_at_all_ends_the_run(self):
        for lines in [["100\t503\t50"], ["100\t-1\t50"], []]:
            with self.assertRaises(SystemExit):
                web.within(lines, 0, 1000)

    def test_ratios_are_made_within_rounds(self):
        found = {"get": {"tollgate": [{"cpu_us": 5}, {"cpu_us": 8}], "envoy": [{"cpu_us": 10}, {"cpu_us": 10}]}}
        self.assertEqual(tables.ratios(found, "get", "tollgate", "envoy"), [0.5, 0.8])
        row = tables.goal("GET", "0.5 × Envoy", [0.5, 0.8, 0.4])
        self.assertEqual(row, ["GET", "0.5 × Envoy", "0.50", "0.40–0.80"])

    def test_a_proxy_that_cannot_carry_a_load_has_no_figure(self):
        found = {"h2": {"nginx": [], "envoy": [{"cpu_us": 10}]}}
        self.assertIsNone(tables.median(found, "h2", "nginx", "cpu_us"))
        self.assertEqual(tables.show(None, "{:.1f}"), "–")

    def test_tollgate_is_asked_for_the_doors_that_loads_need(self):
        text = web_configs.tollgate("127.0.0.1:9", {"h1": 1, "h2": 2, "grpc": 3}, "/tmp", proxy.tls_texts(None))
        self.assertIn('h1: { endpoints: ["127.0.0.1:9"] }', text)
        self.assertIn('h2: { endpoints: ["127.0.0.1:9"], http: { version: 2 } }', text)
        self.assertIn('grpc: { address: "127.0.0.1:3", protocol: grpc, cluster: grpc }', text)

    def test_every_proxy_shows_the_certificate_that_clients_trust(self):
        tls = proxy.tls_texts("/tmp/a.pem")
        texts = [web_configs.tollgate("127.0.0.1:9", {"h1": 1}, "/tmp", tls)]
        texts += [web_configs.envoy(9, {"h1": 1}, "/tmp", tls)]
        doors = dict.fromkeys(["h1", "h2_h1", "h2", "grpc", "upstream", "scratch"], "x")
        texts += [config.format(**doors, **tls) for config in (web_configs.HAPROXY, web_configs.NGINX)]
        for text in texts:
            self.assertIn("/tmp/a.pem", text)


if __name__ == "__main__":
    unittest.main()
