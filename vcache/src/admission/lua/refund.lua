-- Refund: takes what a receipt was charged off the quotas of its window, once.
--
-- KEYS     the marker of the receipt, a quota each
-- ARGV     cost, milliseconds that the marker is kept at least
-- returns  {1 if it was refunded or 0 if it had been already, per quota: units used}
--
-- A counter never falls below 0, none is made, and each keeps its time to live. The marker stays as long as any of
-- them does, so that no receipt is refunded twice. Every key is read before the first write.
local cost = tonumber(ARGV[1])
if not (cost and cost >= 0 and cost <= 9007199254740992 and cost % 1 == 0) then
  return redis.error_reply('ERR the cost is ' .. ARGV[1] .. ': give a whole number from 0 to 2^53')
end
local reply = {redis.call('GET', KEYS[1]) and 0 or 1}
local keep = tonumber(ARGV[2])
for i = 2, #KEYS do
  local used = redis.call('GET', KEYS[i])
  if used then
    used = tonumber(used)
    if not used then
      return redis.error_reply('ERR the key ' .. KEYS[i] .. ' holds something else than a counter')
    end
    keep = math.max(keep, redis.call('PTTL', KEYS[i]))
  end
  reply[i] = used or 0
end
if reply[1] == 1 then
  redis.call('SET', KEYS[1], '1', 'PX', string.format('%.0f', keep))
  for i = 2, #KEYS do
    local refund = math.min(cost, reply[i])
    if refund > 0 then
      reply[i] = redis.call('DECRBY', KEYS[i], string.format('%.0f', refund))
    end
  end
end
return reply
