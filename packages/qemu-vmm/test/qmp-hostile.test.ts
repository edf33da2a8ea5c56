// QMP from peers that break its rules: they get answers or silence, and the session goes on.
import test from 'ava'

import { negotiated } from './support/qmp-session.ts'
import type { QmpFixture } from './support/qmp-session.ts'

const ALIVE = '{"execute":"query-name","id":"alive"}'
const CHUNK_BYTES = 64 * 1024

/** Sends what is much as a socket would, and returns the answers. */
async function flood({ device, say }: QmpFixture, text: string): Promise<unknown[]> {
  const answers: unknown[] = []
  for (let at = 0; at < text.length; at += CHUNK_BYTES) {
    device.type(text.slice(at, at + CHUNK_BYTES))
  }
  answers.push(...(await say('\n')))
  return answers
}

test('a line of 100 MB costs one error and no memory', async (t) => {
  const fixture = await negotiated()
  const part = 'x'.repeat(10 << 20)
  const [first, ...others] = await flood(fixture, `{"execute":"${part}`)
  t.like(first, {
    error: { class: 'GenericError', desc: 'JSON token size limit exceeded' },
  })
  t.deepEqual(others, [])
  const before = process.memoryUsage().heapUsed
  fixture.device.type('{"execute":"')
  for (let i = 0; i < 10; i++) fixture.device.type(part)
  t.true(process.memoryUsage().heapUsed - before < 64 << 20)
  t.is((await fixture.say('\n')).length, 1)
  t.like(await fixture.say(ALIVE), [{ id: 'alive' }])
})

test('deep nesting is refused before it is parsed', async (t) => {
  const fixture = await negotiated()
  for (const open of ['[', '{"a":']) {
    const [answer] = await flood(fixture, open.repeat(100_000))
    t.like(answer, { error: { class: 'GenericError' } })
    t.like(await fixture.say(ALIVE), [{ id: 'alive' }], open)
  }
})

test('bad JSON, unknown commands and wrong types are each answered', async (t) => {
  const { say } = await negotiated()
  for (const text of [
    '{"execute":}\n',
    '}}\n',
    '{"execute":"\u0000"}',
    '{"execute":"__proto__"}',
    '{"execute":"constructor","arguments":{}}',
    '{"execute":"send-key","arguments":{"keys":{"length":1e9}}}',
    '{"execute":"device_add","arguments":{"driver":"virtio-rng-pci","id":{"a":[]}}}',
    '{"execute":"blockdev-add","arguments":{"driver":"qcow2","file":{"driver":"qcow2"}}}',
    '{"execute":"qom-get","arguments":{"path":"/machine/peripheral/../..","property":"type"}}',
  ]) {
    const answers = await say(text)
    t.true(answers.length > 0, text)
    for (const answer of answers) t.true('error' in (answer as object), text)
    t.like(await say(ALIVE), [{ id: 'alive' }], text)
  }
})
