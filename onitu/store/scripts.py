"""The Lua scripts: what has to happen in the server in one step. Plain `EVALSHA`, for servers from Redis 6 on.

`COMMIT` is the only way in which anything of a folder is written. A script is atomic towards other clients, and its
effects stand in the append-only file as one transaction, so that a crash leaves all of it or nothing.
"""

from __future__ import annotations

COMMIT = """
-- KEYS: fence, meta.  ARGV: our fencing token, id of this commit, then for each command its length and its words.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('FENCED') end
-- The client resends after a lost connection; counters and journal must not take it twice.
if redis.call('HGET', KEYS[2], 'commit') == ARGV[2] then return 0 end
local i = 3
while i <= #ARGV do
  local n = tonumber(ARGV[i])
  if ARGV[i + 1] == 'onitu.prune' then
    if redis.call('EXISTS', ARGV[i + 2]) == 0 then redis.call('SREM', ARGV[i + 3], ARGV[i + 4]) end
  elseif ARGV[i + 1] == 'onitu.append' then
    for j = i + 4, i + n do redis.call('XADD', ARGV[i + 2], 'MAXLEN', '~', ARGV[i + 3], '*', 'e', ARGV[j]) end
  else
    redis.call(unpack(ARGV, i + 1, i + n))
  end
  i = i + n + 1
end
redis.call('HSET', KEYS[2], 'commit', ARGV[2])
return 1
"""

TAKE = """
-- KEYS: lease, fence.  ARGV: the holder (JSON), ttl in ms, nonce, and the lease that may be taken over, or ''.
-- Returns {new fencing token, ''}, or {'', the lease that stands}.
local lease = redis.call('GET', KEYS[1])
if lease and lease ~= ARGV[4] then return {'', lease} end
local last = string.match(redis.call('GET', KEYS[2]) or '', '^%d+') or '0'
-- The nonce tells this token from the same number in another life of the server (FLUSHALL, a restored backup).
local token = string.format('%d', tonumber(last) + 1) .. ' ' .. ARGV[3]
redis.call('SET', KEYS[2], token)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {token, ''}
"""

RENEW = """
-- KEYS: lease, fence.  ARGV: the holder, ttl in ms, our fencing token.
-- A lease that ran out (a suspended laptop) is taken up again: while the fence is ours, nobody else wrote.
if redis.call('GET', KEYS[2]) ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

RELEASE = """
-- KEYS: lease, fence.  ARGV: our fencing token.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""

TODO = """
-- KEYS: todo.  ARGV: score, path, limit.  What comes strictly after (score, path), as ZRANGE WITHSCORES.
-- Strings are compared by hand: Lua's own comparison follows the server's locale.
local function after(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x > y end
  end
  return #a > #b
end
local low = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[1])
local high = low + redis.call('ZCOUNT', KEYS[1], ARGV[1], ARGV[1])
while low < high do
  local middle = math.floor((low + high) / 2)
  if after(redis.call('ZRANGE', KEYS[1], middle, middle)[1], ARGV[2]) then high = middle else low = middle + 1 end
end
return redis.call('ZRANGE', KEYS[1], low, low + tonumber(ARGV[3]) - 1, 'WITHSCORES')
"""
