-- wrk's side of bench/dataplane/client.py: new connections are asked for with BENCH_CLOSE, and the counts go
-- to standard output as JSON.

if os.getenv("BENCH_CLOSE") then
   wrk.headers["Connection"] = "close"
end

function done(summary, latency, requests)
   local e = summary.errors
   local json = '{"requests": %d, "took_us": %d, "connect": %d, "read": %d, "write": %d, '
      .. '"status": %d, "timeout": %d, "p50_us": %d, "p99_us": %d}\n'
   io.write(string.format(json, summary.requests, summary.duration, e.connect, e.read, e.write,
      e.status, e.timeout, latency:percentile(50), latency:percentile(99)))
end
