-- Peek: the state of throttles and quotas. Writes nothing, so it runs on a server that is out of memory, too.
--
-- KEYS     a throttle each, a quota each
-- ARGV     number of throttles, of quotas; per throttle: limit, period in microseconds, burst
-- returns  {now in microseconds, per throttle: units left, microseconds until nothing is owed; per quota: units used}
local throttles, quotas = tonumber(ARGV[1]), tonumber(ARGV[2])
local reply = {now}
local arg, slot = 2, 1
for i = 1, throttles do
  local limit, period, burst = tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2]), tonumber(ARGV[arg + 3])
  if not sound(limit, period, burst) then
    return redis.error_reply('ERR throttle ' .. i .. ' is below 1 or too large to be counted exactly')
  end
  local full = burst * period
  local debt = owed(KEYS[i], limit, period, full)
  reply[slot + 1] = floor((full - debt) / period)
  reply[slot + 2] = ceil(debt / limit)
  arg, slot = arg + 3, slot + 2
end
for i = throttles + 1, throttles + quotas do
  local used = redis.call('GET', KEYS[i])
  used = used and tonumber(used) or used
  if type(used) == 'string' then
    return redis.error_reply('ERR the key ' .. KEYS[i] .. ' holds something else than a counter')
  end
  slot = slot + 1
  reply[slot] = used or 0
end
return reply
