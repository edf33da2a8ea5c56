import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { define, domainXml, folder, startDaemon } from './support/daemon.ts'

/** Flags of `virDomainUndefineFlags`. */
const NVRAM = 4
const KEEP_NVRAM = 8

test('a domain with UEFI has variables of its own, which stay', async (t) => {
  const { client: open, state } = await startDaemon(t)
  const client = await open()
  const files = folder(t)
  const code = join(files, 'OVMF_CODE.secboot.fd')
  writeFileSync(code, Buffer.alloc(256 << 10, 0xff))
  writeFileSync(join(files, 'OVMF_VARS.fd'), Buffer.alloc(128 << 10, 0x11))
  const os = `<loader readonly='yes' type='pflash'>${code}</loader>`
  const more = '<features><acpi/></features>'
  const xml = domainXml('efi', { os, more, uuid: '6b0d3b0e-5d2c-4c8e-9a55-0d6a1f6d2b11' })
  const dom = await define(client, xml)
  const variables = join(state, 'nvram/efi_VARS.fd')
  for (const byte of [0x11, 0x22]) {
    const paused = { dom, flags: 1 }
    const { dom: running } = await client.call('DOMAIN_CREATE_WITH_FLAGS', paused)
    t.deepEqual(readFileSync(variables), Buffer.alloc(128 << 10, byte))
    await client.call('DOMAIN_DESTROY', { dom: running })
    writeFileSync(variables, Buffer.alloc(128 << 10, 0x22))
  }
  const undefine = (flags: number): Promise<unknown> =>
    client.call('DOMAIN_UNDEFINE_FLAGS', { dom, flags })
  await t.throwsAsync(client.call('DOMAIN_UNDEFINE', { dom }), { message: /with nvram/ })
  await t.throwsAsync(undefine(NVRAM | KEEP_NVRAM), { message: /exclude each other/ })
  await undefine(KEEP_NVRAM)
  t.true(existsSync(variables))
  await define(client, xml)
  await undefine(NVRAM)
  t.false(existsSync(variables))
})

test('flash that only system management mode may write needs q35 and the mode', async (t) => {
  const { client: open } = await startDaemon(t)
  const client = await open()
  const loader = `<loader readonly='yes' secure='yes' type='pflash'>/usr/share/OVMF/code.fd</loader>`
  const on = '<features><acpi/><smm state="on"/></features>'
  const off = '<features><acpi/><smm state="off"/></features>'
  const q35 = "<type arch='x86_64' machine='q35'>hvm</type>"
  for (const [type, more, message] of [
    ["<type arch='x86_64' machine='pc'>hvm</type>", on, /q35 machine types only/],
    [q35, off, /requires SMM feature enabled/],
    [q35, '<features><acpi/></features>', /requires SMM feature enabled/],
  ] as const) {
    const xml = domainXml('secure', { os: loader, more }).replace(
      "<type arch='x86_64' machine='pc'>hvm</type>",
      type,
    )
    await t.throwsAsync(define(client, xml), { message })
  }
  const xml = domainXml('secure', { os: loader, more: on }).replace(
    "<type arch='x86_64' machine='pc'>hvm</type>",
    q35,
  )
  const dom = await define(client, xml)
  const { xml: back } = await client.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })
  t.regex(back, /<smm state='on'\/>/)
  t.regex(back, /secure='yes'/)
  const asked = { format: 'qemu-argv', xml: back, flags: 0 }
  const { config: native } = await client.call('CONNECT_DOMAIN_XML_TO_NATIVE', asked)
  t.regex(native, /-machine pc-q35-[^ ]*,usb=off,smm=on,/)
  t.regex(native, /-global driver=cfi.pflash01,property=secure,value=on/)
})
