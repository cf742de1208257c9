-- Moves entries to the dead letters, all in one step: a crash in between neither loses nor doubles one. What is not
-- pending any more was acknowledged or moved before, and stays as it is, so that this may be sent twice.
--
-- KEYS     stream, dead letters
-- ARGV     group, delete, reason, ids
-- returns  how many were moved
local moved = 0
for at = 4, #ARGV do
  local id = ARGV[at]
  local pending = redis.call('XPENDING', KEYS[1], group, id, id, 1)[1]
  if pending then
    moved = moved + bury(KEYS[1], KEYS[2], id, pending[2], pending[4], ARGV[3])
  end
end
return moved
