-- wrk's side of bench/dataplane/client.py: each thread visits one of the addresses of BENCH_ADDRESSES, new
-- connections are asked for with BENCH_CLOSE, and the counts go to standard output as JSON.

local addresses = {}
for address in os.getenv("BENCH_ADDRESSES"):gmatch("%S+") do
   table.insert(addresses, address)
end
local threads = 0

function setup(thread)
   local address = addresses[threads % #addresses + 1]
   thread.addr = wrk.lookup(address, "80")[1]
   threads = threads + 1
end

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
