// What guests can have on several hosts: computed from descriptions of their processors.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { VirtError } from '../src/rpc/index.ts'
import { hasVirsh, virsh, without } from './support/clients.ts'
import { folder, startDaemon } from './support/daemon.ts'

const INVALID_ARG = 8
const INTERNAL_ERROR = 1
const XML_ERROR = 27
const EXPAND = 1

const cpu = (features: string, model = 'qemu64'): string =>
  `<cpu><arch>x86_64</arch><model>${model}</model><vendor>Intel</vendor>${features}</cpu>`
const has = (name: string): string => `<feature name='${name}'/>`
const lacks = (name: string): string => `<feature policy='disable' name='${name}'/>`

test('a guest can have what all processors have', async (t) => {
  const { client: open } = await startDaemon(t)
  const client = await open()
  const cpus = [
    cpu(has('avx') + has('aes') + has('pclmuldq')),
    cpu(has('aes') + has('pclmuldq') + has('movbe') + lacks('cx16')),
  ]
  const { xml } = await client.call('CONNECT_BASELINE_CPU', { cpus, flags: 0 })
  t.is(
    xml,
    `<cpu mode='custom' match='exact'>
  <model fallback='forbid'>qemu64</model>
  <vendor>Intel</vendor>
  <feature policy='require' name='aes'/>
  <feature policy='require' name='pclmuldq'/>
  <feature policy='disable' name='cx16'/>
</cpu>
`,
  )
  // The order does not count, and one alone is what it is.
  const other = await client.call('CONNECT_BASELINE_CPU', { cpus: cpus.toReversed(), flags: 0 })
  t.is(other.xml, xml)
  const expanded = await client.call('CONNECT_BASELINE_CPU', { cpus, flags: EXPAND })
  for (const name of ['aes', 'sse2', 'lahf_lm']) {
    t.true(expanded.xml.includes(`<feature policy='require' name='${name}'/>`), name)
  }
  t.false(expanded.xml.includes("name='avx'"))
  // What it makes can be asked for, and comes to itself.
  const again = await client.call('CONNECT_BASELINE_CPU', { cpus: [xml], flags: 0 })
  t.is(again.xml, xml)
})

test('processors that cannot be compared are refused', async (t) => {
  const { client: open } = await startDaemon(t)
  const client = await open()
  const refused: [string[], number, RegExp][] = [
    [[], INVALID_ARG, /no CPUs given/],
    [[cpu(''), '<cpu><arch>x86_64</arch></cpu>'], INVALID_ARG, /no CPU model specified at index 1/],
    [[cpu('').replace('x86_64', 'ppc64')], INVALID_ARG, /architecture ppc64/],
    [[cpu('<feature/>')], INVALID_ARG, /without a name at index 0/],
    [[cpu('', 'i-am-no-model')], INTERNAL_ERROR, /Unknown CPU model i-am-no-model/],
    [[cpu(''), cpu('').replace('Intel', 'AMD')], 9, /vendors do not match: Intel, AMD/],
    [['<domain/>'], XML_ERROR, /expected the root element <cpu>/],
    [['<cpu>'], XML_ERROR, /./],
  ]
  for (const [cpus, code, message] of refused) {
    const error = await t.throwsAsync(client.call('CONNECT_BASELINE_CPU', { cpus, flags: 0 }), {
      instanceOf: VirtError,
      message,
    })
    t.is((error as VirtError).code, code, cpus.join(''))
  }
  await t.throwsAsync(client.call('CONNECT_BASELINE_CPU', { cpus: [cpu('')], flags: 4 }), {
    message: /unsupported flags/,
  })
})

test('virsh has baselines computed, of the default emulator and of one that is named', async (t) => {
  if (!hasVirsh) return without(t, 'virsh')
  const at = folder(t)
  const { socket } = await startDaemon(t, at)
  const file = join(at, 'cpus.xml')
  writeFileSync(file, cpu(has('aes') + has('avx')) + cpu(has('aes')))
  const plain = await virsh(socket, 'cpu-baseline', file)
  t.regex(plain.output, /<feature policy='require' name='aes'\/>/)
  t.notRegex(plain.output, /name='avx'/)
  const named = await virsh(socket, 'hypervisor-cpu-baseline', file, '--virttype', 'qemu')
  t.is(named.output, plain.output)
  const { output } = await virsh(socket, 'hypervisor-cpu-baseline', file, '--machine', 'isapc')
  t.regex(output, /the machine 'isapc' is not supported/)
})
