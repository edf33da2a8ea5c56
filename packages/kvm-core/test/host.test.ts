import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'

import { judge } from '../src/host-probe.ts'
import type { ProbeEnvironment } from '../src/host-probe.ts'
import { ExitReason, KVM_RUN, KvmError, hostVerdict, open } from '../src/index.ts'
import { Assembler, Reg, enterReal } from '../src/testing/index.ts'
import { CODE, RAM_BYTES } from './guest.ts'

const scratch = mkdtempSync(join(tmpdir(), 'kvm-core-'))
test.after.always(() => rmSync(scratch, { recursive: true }))

interface Fake extends ProbeEnvironment {
  probes: number
}

function fake(name: string, change: Partial<ProbeEnvironment> = {}): Fake {
  const env: Fake = {
    probes: 0,
    cpuinfo: () => 'processor\t: 0\nflags\t\t: fpu svm lm\n',
    access: () => {},
    bootId: () => 'boot-1',
    cache: join(scratch, name, 'verdict.json'),
    probe: () => undefined,
    ...change,
  }
  const { probe } = env
  return Object.assign(env, {
    probe: (device: string) => {
      env.probes++
      return probe(device)
    },
  })
}

test('a CPU without virtualization is never probed, nor is a device that cannot be opened', (t) => {
  const none = fake('none', { cpuinfo: () => 'flags\t\t: fpu lm svmx\n' })
  t.deepEqual(judge('/dev/kvm', none), {
    usable: false,
    reason: 'the CPU flags have neither vmx nor svm',
  })
  const closed = fake('closed', {
    access() {
      throw new Error('EACCES: permission denied')
    },
  })
  t.regex(judge('/dev/kvm', closed).reason, /\/dev\/kvm cannot be opened \(EACCES/)
  t.deepEqual([none.probes, closed.probes], [0, 0])
})

test('a verdict is kept for the boot and the device', (t) => {
  const env = fake('kept')
  t.true(judge('/dev/kvm', env).usable)
  t.true(judge('/dev/kvm', env).usable)
  t.is(env.probes, 1)
  t.true(judge('/dev/other', env).usable)
  t.is(env.probes, 2)
  const rebooted = fake('kept', { bootId: () => 'boot-2', probe: () => 'exit 9' })
  t.deepEqual(judge('/dev/other', rebooted), { usable: false, reason: 'exit 9' })
  t.deepEqual(judge('/dev/other', rebooted), { usable: false, reason: 'exit 9' })
  t.is(rebooted.probes, 1)
  const kept = JSON.parse(readFileSync(rebooted.cache, 'utf8')) as unknown
  t.like(kept, { bootId: 'boot-2', device: '/dev/other', usable: false })
})

test('a damaged verdict and one that cannot be kept are made anew', (t) => {
  const env = fake('damaged')
  judge('/dev/kvm', env)
  for (const text of ['', '{', '[]', '{"bootId":"boot-1","device":"/dev/kvm","usable":1}']) {
    writeFileSync(env.cache, text)
    t.true(judge('/dev/kvm', env).usable)
  }
  t.is(env.probes, 5)
  // A file cannot be a folder.
  const nowhere = fake('x', { cache: join(env.cache, 'verdict.json') })
  t.true(judge('/dev/kvm', nowhere).usable)
  t.true(judge('/dev/kvm', nowhere).usable)
  t.is(nowhere.probes, 2)
})

test('without a KVM the error says what helps, and auto is the software engine', (t) => {
  const error = t.throws<KvmError>(() => open({ engine: 'host', device: '/nonexistent/kvm' }), {
    instanceOf: KvmError,
    code: 'E_NO_HOST_ENGINE',
  })
  t.is(error.errno, 'ENOENT')
  t.regex(error.message, /cannot open \/nonexistent\/kvm .*engine 'soft'/)
  t.false(hostVerdict('/nonexistent/kvm').usable)
  t.is(open({ engine: 'auto', device: '/nonexistent/kvm' }).engine, 'soft')
})

test("a guest runs on the host's KVM where auto chooses it", async (t) => {
  const verdict = hostVerdict()
  if (!verdict.usable) {
    t.log(`skipped: ${verdict.reason}`)
    t.is(open().engine, 'soft')
    return
  }
  const kvm = open()
  t.is(kvm.engine, 'host')
  const vm = kvm.createVm()
  const ram = vm.createRam({ size: RAM_BYTES })
  vm.setUserMemoryRegion({ slot: 0, gpa: 0, size: RAM_BYTES, ram })
  const code = new Assembler(16, CODE).movImm8(Reg.ax, 0x55).outImm8(0x10).inImm8(0x20).hlt()
  vm.memory.write(CODE, code.build())
  const vcpu = vm.createVcpu(0)
  enterReal(vcpu, CODE)
  const run = new DataView(vcpu.run)
  const data = (): number => Number(run.getBigUint64(KVM_RUN.ioDataOffset, true))
  t.is(vcpu.runSync(), ExitReason.Io)
  t.is(run.getUint8(data()), 0x55)
  t.is(vcpu.runSync(), ExitReason.Io)
  run.setUint8(data(), 0xab)
  t.is(vcpu.runSync(), ExitReason.Hlt)
  t.is((vcpu.getRegs()[0] ?? 0n) & 0xffn, 0xabn)
  await vm.close()
  t.is(vcpu.run.byteLength, 0)
})
