// Commands that serve connections of a guest: the words of their lines, a process for each connection, and their end.
import { existsSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout } from 'node:timers/promises'
import test from 'ava'
import { CommandServer, commandWords } from '../src/net/user/command-server.ts'
import { UserNet } from '../src/net/user/user-net.ts'
import { parseUserOptions } from '../src/net/user/options.ts'
import { parseKeyval } from '../src/cli/keyval.ts'

test('words are split as by a shell, and nothing else is done to them', (t) => {
  const cases: [string, string[] | undefined][] = [
    ['cat', ['cat']],
    ['  nc -N   host 80 ', ['nc', '-N', 'host', '80']],
    [`sh -c 'echo "$HOME" | cat'`, ['sh', '-c', 'echo "$HOME" | cat']],
    [`printf "a \\"b\\" \\$c" ''`, ['printf', 'a "b" $c', '']],
    ['a\\ b"c"d', ['a bcd']],
    ['$(id) *', ['$(id)', '*']],
    ['', undefined],
    ['   ', undefined],
    ['cat "x', undefined],
    ["cat 'x", undefined],
    ['cat \\', undefined],
  ]
  for (const [line, words] of cases) t.deepEqual(commandWords(line), words, line)
})

test('each connection has a process of its own, and hears it to its end', async (t) => {
  const said: string[] = []
  const server = new CommandServer(
    { command: ['sh', '-c', 'read x; echo "$$ $x"; cat'] },
    (message) => said.push(message),
  )
  t.is(statSync(dirname(server.path)).mode & 0o777, 0o700)
  const answers = await Promise.all(
    ['one', 'two'].map(async (word) => {
      const socket = connect(server.path)
      socket.end(`${word}\nand more\n`)
      return await text(socket)
    }),
  )
  const [first, second] = answers.map((answer) => answer.split(/[ \n]/))
  t.deepEqual(first?.slice(1), ['one', 'and', 'more', ''])
  t.deepEqual(second?.slice(1), ['two', 'and', 'more', ''])
  t.not(first?.[0], second?.[0])
  server.close()
  t.false(existsSync(dirname(server.path)))
  t.deepEqual(said, [])
})

test('a command that cannot be started ends its connection, and is named', async (t) => {
  const said: string[] = []
  const server = new CommandServer({ command: ['/no/such/program', 'x'] }, (message) =>
    said.push(message),
  )
  t.teardown(() => server.close())
  t.is(await text(connect(server.path)).catch(() => ''), '')
  t.regex(said.join(), /guestfwd: cmd:\/no\/such\/program x: .*ENOENT/)
})

test('processes end with their connection, and with the network', async (t) => {
  // What neither reads nor writes does not notice the end of its connection, and stays until that of the network.
  const server = new CommandServer({ command: ['sh', '-c', 'echo $$; exec cat'] }, () => {})
  const isThere = (pid: number): boolean => existsSync(`/proc/${pid}/cwd`)
  const start = async (): Promise<{ pid: number; end: () => void }> => {
    const socket = connect(server.path)
    const pid = await new Promise<number>((resolve) =>
      socket.once('data', (data) => resolve(Number(data.toString()))),
    )
    return { pid, end: () => socket.destroy() }
  }
  const [first, second] = [await start(), await start()]
  t.true(isThere(first.pid) && isThere(second.pid))
  first.end()
  while (isThere(first.pid)) await setTimeout(10)
  t.true(isThere(second.pid))
  server.close()
  while (isThere(second.pid)) await setTimeout(10)
  second.end()
  t.pass()
})

test('a network takes its commands along when it goes', (t) => {
  const options = parseKeyval('guestfwd=tcp:10.0.2.100:7-cmd:cat -n', {})
  const config = parseUserOptions('n', options)
  t.deepEqual(config.guestForwards, [
    { address: '10.0.2.100', port: 7, to: { command: ['cat', '-n'] } },
  ])
  const net = new UserNet(config, { nowUs: () => 0, seed: 1, report: () => {} })
  t.notThrows(() => net.close())
})
