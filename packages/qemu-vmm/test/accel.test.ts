import test from 'ava'
import { KvmError } from 'kvm-core'
import type { Kvm } from 'kvm-core'

import type { VmmError } from '../src/errors.ts'
import { openEngine } from '../src/machine/accel.ts'
import type { Engines } from '../src/machine/accel.ts'

/** A host with or without a KVM; `asked` is what was opened. */
function host(errno?: 'ENOENT' | 'EACCES' | 'EOPNOTSUPP'): Engines & { asked: string[] } {
  const asked: string[] = []
  return {
    asked,
    hostVerdict: () => ({ usable: errno !== 'ENOENT', reason: 'no vmx' }),
    open({ engine = 'auto' } = {}) {
      asked.push(engine)
      if (engine === 'host' && errno !== undefined) {
        throw new KvmError(errno, `cannot open /dev/kvm`, 'E_NO_HOST_ENGINE')
      }
      return { engine: engine === 'auto' ? 'soft' : engine } as Kvm
    },
  }
}

test('the engine is the one that is asked for', (t) => {
  for (const [accel, engine] of [
    ['tcg', 'soft'],
    ['kvm', 'host'],
    ['auto', 'auto'],
    ['kvm:tcg', 'host'],
  ] as const) {
    const engines = host()
    openEngine({ accel }, engines)
    t.deepEqual(engines.asked, [engine])
  }
})

test('wishes for tcg reach the software engine, and the log says where another runs', (t) => {
  const asked: unknown[] = []
  const lines: string[] = []
  const log = (line: string): number => lines.push(line)
  const engines = (engine: 'soft' | 'host'): Engines => ({
    ...host(),
    open(options) {
      asked.push(options)
      return { engine } as Kvm
    },
  })
  const tcg = { codeBytes: 4 << 20 }
  openEngine({ accel: 'tcg', tcg, log }, engines('soft'))
  openEngine({ accel: 'auto', tcg, log }, engines('soft'))
  t.deepEqual(lines, [])
  openEngine({ accel: 'auto', tcg, log }, engines('host'))
  openEngine({ accel: 'kvm:tcg', tcg, log }, engines('host'))
  t.deepEqual(lines, Array(2).fill('wishes for tcg have no effect: kvm runs'))
  t.deepEqual(asked, [
    { engine: 'soft', soft: tcg },
    { engine: 'auto', soft: tcg },
    { engine: 'auto', soft: tcg },
    { engine: 'host' },
  ])
})

test("without a KVM the messages are QEMU's", (t) => {
  const error = t.throws<VmmError>(() => openEngine({ accel: 'kvm' }, host('ENOENT')))
  t.is(error.code, 'E_NO_HOST_ENGINE')
  t.regex(error.message, /^Could not access KVM kernel module: No such file or directory\n/)
  t.regex(error.message, /\nfailed to initialize kvm: No such file or directory\n/)
  t.regex(error.message, /-accel tcg/)
  t.regex(
    t.throws<VmmError>(() => openEngine({ accel: 'kvm' }, host('EACCES'))).message,
    /kernel module: Permission denied/,
  )
  t.regex(
    t.throws<VmmError>(() => openEngine({ accel: 'kvm' }, host('EOPNOTSUPP'))).message,
    /^failed to initialize kvm: cannot open/,
  )
})

test('a second choice is taken with a word about the first', (t) => {
  for (const errno of ['ENOENT', 'EACCES'] as const) {
    const lines: string[] = []
    const engines = host(errno)
    const kvm = openEngine({ accel: 'kvm:tcg', log: (line) => lines.push(line) }, engines)
    t.is(kvm.engine, 'soft')
    t.regex(lines.join('\n'), /failed to initialize kvm: .*\n(?:.*\n)*falling back to tcg$/)
  }
})
