// What `libvirt-lite doctor` finds on hosts of all kinds, which are folders here.
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { parseDoctor } from '../src/cli/options.ts'
import { examineState } from '../src/doctor/folders.ts'
import { examine, report } from '../src/doctor/index.ts'
import type { Finding, Host } from '../src/doctor/index.ts'
import { examineKvm } from '../src/doctor/kvm.ts'
import { examineFiles, examineMemory } from '../src/doctor/memory.ts'
import { examineFirmware, examinePrograms } from '../src/doctor/programs.ts'
import { folder } from './support/daemon.ts'

/** A host with these files. */
function host(
  t: ExecutionContext,
  files: Readonly<Record<string, string>>,
  more: Partial<Host> = {},
): Host {
  const root = folder(t)
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
  return { root, uid: 12_345, groups: [12_345], user: 'ann', arch: 'x64', ...more }
}

const cpu = (flags: string): string => `processor\t: 0\nflags\t\t: fpu ${flags} sse\n`
const told = ({ text, remedy = '' }: Finding): string => `${text}; ${remedy}`

test('why KVM is not used, with the remedy for each reason', (t) => {
  const cases: readonly (readonly [Record<string, string>, Partial<Host>, RegExp])[] = [
    [{}, { arch: 'arm64' }, /processor is arm64/],
    [{ '/proc/cpuinfo': cpu('lm') }, {}, /turned off.*VT-x or AMD-V/],
    [{ '/proc/cpuinfo': cpu('hypervisor') }, {}, /virtual machine itself.*nested=1/],
    [{ '/proc/cpuinfo': cpu('vmx') }, {}, /kvm_intel is not loaded.*modprobe kvm_intel/],
    [{ '/proc/cpuinfo': cpu('svm') }, {}, /kvm_amd is not loaded.*modprobe kvm_amd/],
    [
      { '/proc/cpuinfo': cpu('vmx'), '/proc/modules': 'kvm_intel 4096 0 - Live 0x0\n' },
      {},
      /kvm_intel is loaded, and there is no \/dev\/kvm.*--device \/dev\/kvm/,
    ],
  ]
  for (const [files, more, expected] of cases) {
    const finding = examineKvm(host(t, files, more))
    t.is(finding.verdict, 'note')
    t.regex(told(finding), expected)
    t.regex(told(finding), /'qemu' run on the software engine/)
  }
  const files = { '/proc/cpuinfo': cpu('vmx'), '/dev/kvm': '' }
  const shut = host(t, files)
  chmodSync(join(shut.root, 'dev/kvm'), 0o600)
  t.regex(told(examineKvm(shut)), /ann may not open \/dev\/kvm \(mode 600.*usermod -aG kvm ann/)
  // For a member of its group, and for root.
  chmodSync(join(shut.root, 'dev/kvm'), 0o660)
  t.is(examineKvm({ ...shut, groups: [process.getegid!()] }).verdict, 'ok')
  t.is(examineKvm(shut).verdict, 'note')
  t.is(examineKvm({ ...shut, uid: 0 }).verdict, 'ok')
})

test('memory, large pages and open files', (t) => {
  const enabled = '/sys/kernel/mm/transparent_hugepage/enabled'
  const meminfo = (available: number, pages: number): string =>
    `MemAvailable: ${available} kB\nHugePages_Total: ${pages}\nHugePages_Free: ${pages}\nHugepagesize: 2048 kB\n`
  const limits = (hard: string): string =>
    `Limit  Soft Limit  Hard Limit  Units\nMax open files            256                  ${hard}                 files\n`
  const poor = host(t, {
    '/proc/meminfo': meminfo(1024, 0),
    '/proc/self/limits': limits('1024'),
    [enabled]: 'always madvise [never]\n',
  })
  const [memory, large, transparent] = examineMemory(poor)
  t.regex(told(memory!), /^1 MiB are available; .*setmem/)
  t.regex(told(large!), /none are set aside.*vm\.nr_hugepages=512/)
  t.regex(told(transparent!), /turned off.*echo madvise/)
  t.regex(told(examineFiles(poor)), /1024 at a time.*ulimit -n/)
  const rich = host(t, {
    '/proc/meminfo': meminfo(1 << 22, 8),
    '/proc/self/limits': limits('1048576'),
    [enabled]: '[always] madvise never\n',
  })
  const findings = [...examineMemory(rich), examineFiles(rich)]
  t.deepEqual(
    findings.map(({ verdict }) => verdict),
    ['ok', 'ok', 'ok', 'ok'],
  )
  t.is(examineFiles(host(t, { '/proc/self/limits': limits('128') })).verdict, 'bad')
  t.is(examineFiles(host(t, { '/proc/self/limits': limits('unlimited') })).verdict, 'ok')
})

test('firmware and programs that are there, and that are not', async (t) => {
  const none = examineFirmware(host(t, {}))
  t.regex(told(none[0]!), /SeaBIOS is not there.*apt install seabios/)
  t.regex(told(none[1]!), /OVMF is not there.*apt install ovmf/)
  const there = examineFirmware(
    host(t, { '/usr/share/seabios/bios-256k.bin': '', '/usr/share/OVMF/OVMF_CODE_4M.fd': '' }),
  )
  t.deepEqual(
    there.map(({ verdict }) => verdict),
    ['ok', 'ok'],
  )
  const program = join(folder(t), 'emulator')
  t.regex(told((await examinePrograms(program))[0]!), /cannot be executed/)
  writeFileSync(program, '#!/bin/sh\nexit 3\n', { mode: 0o755 })
  const [broken] = await examinePrograms(program)
  t.is(broken?.verdict, 'bad')
  t.regex(told(broken!), /Failed to ask/)
})

test('a state folder that cannot be one, and what is broken in one that can', (t) => {
  const at = folder(t)
  const us = host(t, {}, { uid: process.geteuid!(), groups: [process.getegid!()] })
  const first = (path: string, who: Host = us): Finding => examineState(path, who)[0]!
  t.regex(told(first(join(at, 'new'))), /will be made/)
  t.regex(told(first(join(at, 'x'.repeat(100)))), /too long a name/)
  writeFileSync(join(at, 'file'), '')
  t.regex(told(first(join(at, 'file'))), /is not a folder/)
  symlinkSync(at, join(at, 'link'))
  t.regex(told(first(join(at, 'link'))), /symbolic link/)
  mkdirSync(join(at, 'open'))
  chmodSync(join(at, 'open'), 0o777)
  t.regex(told(first(join(at, 'open'))), /others may write/)
  t.regex(told(first(join(at, 'new'), { ...us, uid: 12_345, groups: [] })), /may not write to/)
  mkdirSync(join(at, 'state/domains'), { recursive: true, mode: 0o700 })
  writeFileSync(join(at, 'state/domains/1.xml'), '<domain')
  const findings = examineState(join(at, 'state'), us)
  t.regex(told(findings.at(-1)!), /1 cannot be read, and are ignored: 1\.xml/)
  t.true(findings.some(({ subject }) => subject === 'space'))
})

test('the command line, and the whole report of this host', async (t) => {
  t.is(parseDoctor(['--state', 'x']), undefined)
  t.deepEqual(parseDoctor(['doctor']), { stateDir: undefined, emulator: undefined })
  t.throws(() => parseDoctor(['doctor', '--socket', 'x']), {
    message: /--socket is not for doctor/,
  })
  t.throws(() => parseDoctor(['doctor', '--nonsense']), { message: /--help lists/ })
  const text = report(await examine({ stateDir: join(folder(t), 'state') }))
  for (const subject of [
    'Node.js',
    'rights',
    'KVM',
    'emulator',
    'BIOS',
    'UEFI',
    'large pages',
    'space',
  ]) {
    t.regex(text, new RegExp(`^(ok  |note|bad )  ${subject}: .+$`, 'm'))
  }
  // Whatever is not well has a remedy.
  const lines = text.split('\n')
  for (const [index, line] of lines.entries()) {
    if (/^(note|bad )/.test(line)) t.regex(lines[index + 1] ?? '', /^ {6}remedy: ./)
  }
})
