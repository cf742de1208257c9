-- Renews a consumer's claim on entries, as if they had been delivered just now. It counts no delivery, and takes nothing
-- from a consumer that has taken over meanwhile.
--
-- KEYS     streams
-- ARGV     group, consumer, then for each stream: how many ids, the ids
-- returns  for each stream the ids that are still the consumer's
local group, consumer = ARGV[1], ARGV[2]

-- Lua's stack takes some thousands of values at once.
local SLICE = 1000

local reply = {}
local at = 3
for _, key in ipairs(KEYS) do
  local count = tonumber(ARGV[at])
  local held = {}
  for offset = 1, count do
    local id = ARGV[at + offset]
    local row = redis.call('XPENDING', key, group, id, id, 1)[1]
    if row and row[2] == consumer then
      held[#held + 1] = id
    end
  end
  at = at + count + 1
  local renewed = {}
  for first = 1, #held, SLICE do
    local words = {unpack(held, first, math.min(first + SLICE - 1, #held))}
    words[#words + 1] = 'JUSTID'
    -- It leaves out, and forgets, what was deleted from the stream.
    for _, id in ipairs(redis.call('XCLAIM', key, group, consumer, 0, unpack(words))) do
      renewed[#renewed + 1] = id
    end
  end
  reply[#reply + 1] = renewed
end
return reply
