-- Takes back one delivery of entries that failed through no fault of theirs. They stay pending for the consumer, as old
-- as they are. An entry whose count is another one by now is left alone, so that this may be sent twice.
--
-- KEYS     stream
-- ARGV     group, consumer, then for each entry: id, deliveries
-- returns  how many were excused
local group, consumer = ARGV[1], ARGV[2]
local excused = 0
for at = 3, #ARGV, 2 do
  local id, deliveries = ARGV[at], tonumber(ARGV[at + 1])
  local row = redis.call('XPENDING', KEYS[1], group, id, id, 1)[1]
  if row and row[2] == consumer and row[4] == deliveries then
    redis.call(
      'XCLAIM', KEYS[1], group, consumer, 0, id, 'IDLE', row[3], 'RETRYCOUNT', deliveries - 1, 'JUSTID'
    )
    excused = excused + 1
  end
end
return excused
