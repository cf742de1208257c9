-- Refund: takes what a receipt was charged off the quotas of its window, once.
--
-- KEYS     the marker of the receipt, a quota each
-- ARGV     milliseconds that the marker is kept at least, and for each quota what it was charged
-- returns  {1 if units were given back; 0 if they had been already, or none is counted any more; per quota: units used}
--
-- A counter never falls below 0, none is made, and each keeps its time to live. The marker stays as long as any of
-- them does, so that no receipt is refunded twice. Every key is read before the first write.
local costs = {}
for i = 2, #KEYS do
  costs[i] = tonumber(ARGV[i])
  if not (costs[i] and costs[i] >= 0 and costs[i] <= 9007199254740992 and costs[i] % 1 == 0) then
    return redis.error_reply('ERR the cost is ' .. ARGV[i] .. ': give a whole number from 0 to 2^53')
  end
end
local reply = {redis.call('GET', KEYS[1]) and 0 or 1}
local keep = ARGV[1] + 0
for i = 2, #KEYS do
  local used = tonumber(redis.call('GET', KEYS[i]) or 0)
  if not used then
    return redis.error_reply('FOREIGN the key ' .. KEYS[i] .. ' holds something else than a counter')
  end
  keep = math.max(keep, redis.call('PTTL', KEYS[i]))
  reply[i] = used
end
if reply[1] == 1 then
  redis.call('SET', KEYS[1], 1, 'PX', keep)
  reply[1] = 0
  for i = 2, #KEYS do
    local back = math.min(costs[i], reply[i])
    if back > 0 then
      reply[1] = 1
      reply[i] = redis.call('DECRBY', KEYS[i], back)
    end
  end
end
return reply
