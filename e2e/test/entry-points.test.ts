// What the README shows, as it shows it.
import test from 'ava'
import { runExample, runProgram } from '../src/program.ts'

test.serial('the demo runs a script in the guest and ends with it', async (t) => {
  const { code, stdout, stderr } = await runProgram('npm', ['run', '--silent', 'demo'], {
    input: 'uname -r\necho $((6 * 7))\npoweroff -f\n',
  })
  t.is(code, 0, stderr)
  t.regex(stdout, /# uname -r\r?\n\d+\.\d+\.\d+-\S+\r?\n/)
  t.regex(stdout, /\n42\r?\n/)
  t.notRegex(stdout, /Kernel panic|Oops|BUG:/)
})

test.serial('the demo powers a guest off whose script did not', async (t) => {
  const { code, stdout, stderr } = await runProgram('npm', ['run', '--silent', 'demo'], {
    input: 'echo last',
    env: { MEMORY: '256' },
  })
  t.is(code, 0, stderr)
  t.regex(stdout, /\nlast\r?\n/)
})

test.serial('the demo says what is wrong with files that it is given', async (t) => {
  const none = await runProgram('npm', ['run', '--silent', 'demo'], { env: { KERNEL: '/nowhere' } })
  t.not(none.code, 0)
  t.regex(none.stderr, /\/nowhere/)
  const text = await runProgram('npm', ['run', '--silent', 'demo'], { env: { KERNEL: 'LICENSE' } })
  t.not(text.code, 0)
  t.regex(text.stderr, /LICENSE/)
})

test.serial('hello-exit prints what its guest prints', async (t) => {
  const { code, stdout, stderr } = await runExample('hello-exit')
  t.is(code, 0, stderr)
  t.is(stdout, 'Hello from ring 0\n')
})

test.serial('boot-linux runs a command in the guest', async (t) => {
  const { code, stdout, stderr } = await runExample('boot-linux', ['echo $((6 * 7)); uname -s'])
  t.is(code, 0, stderr)
  t.regex(stdout, /\n42\r?\nLinux\r?\n/)
})

test.serial(
  'boot-domain changes a machine that XML describes, and writes the XML of it',
  async (t) => {
    const { code, stdout, stderr } = await runExample('boot-domain')
    t.is(code, 0, stderr)
    t.regex(stdout, /<title>What no machine needs stays<\/title>/)
    t.regex(stdout, /<memory unit='KiB'>262144<\/memory>/)
    const total = Number(/MemTotal: +(\d+) kB/.exec(stdout)?.[1])
    t.true(total > 180_000 && total < 262_144, stdout)
  },
)

test.serial('custom-device is seen by the guest', async (t) => {
  const { code, stdout, stderr } = await runExample('custom-device')
  t.is(code, 0, stderr)
  t.regex(stdout, /(?:\n0x0000000[1-6]\r?){3}\n0x00000003\r?\n/)
})

test.serial('fake-server decides on what the guest connects to', async (t) => {
  const { code, stdout, stderr } = await runExample('fake-server')
  t.is(code, 0, stderr)
  for (const port of [80, 81, 82]) t.regex(stdout, new RegExp(`asked: tcp to 192.0.2.1:${port}\n`))
  t.regex(stdout, /\nfrom the host\r?\nstatus 0/)
  t.regex(stdout, /:81\/[^]*Connection refused\r?\nstatus 1/)
  t.regex(stdout, /:82\/[^]*reset by peer\r?\nstatus 1/)
})
