-- Peek: the state of throttles and quotas. Writes nothing, so it runs on a server that is out of memory, too.
--
-- KEYS     a throttle each, a quota each
-- ARGV     number of throttles, of quotas; per throttle: limit, period in microseconds, burst
-- returns  {now in microseconds, per throttle: units left, microseconds until nothing is owed; per quota: units used}
local throttles, quotas = ARGV[1] + 0, ARGV[2] + 0
local reply = {}
local arg, slot = 2, 1
for i = 1, throttles do
  local limit, period = ARGV[arg + 1] + 0, ARGV[arg + 2] + 0
  local full = ARGV[arg + 3] * period
  local debt = owed(KEYS[i], limit, period, full)
  reply[slot + 1], reply[slot + 2] = floor((full - debt) / period), ceil(debt / limit)
  arg, slot = arg + 3, slot + 2
end
reply[1] = now
for i = throttles + 1, throttles + quotas do
  local used = tonumber(redis.call('GET', KEYS[i]) or 0)
  if not used then
    return redis.error_reply('FOREIGN the key ' .. KEYS[i] .. ' holds something else than a counter')
  end
  slot = slot + 1
  reply[slot] = used
end
return reply
