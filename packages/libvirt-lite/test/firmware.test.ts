import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { define, domainXml, folder, startDaemon } from './support/daemon.ts'

test('a domain with UEFI has variables of its own, which stay', async (t) => {
  const { client: open, state } = await startDaemon(t)
  const client = await open()
  const files = folder(t)
  const code = join(files, 'OVMF_CODE.secboot.fd')
  writeFileSync(code, Buffer.alloc(256 << 10, 0xff))
  writeFileSync(join(files, 'OVMF_VARS.fd'), Buffer.alloc(128 << 10, 0x11))
  const os = `<loader readonly='yes' type='pflash'>${code}</loader>`
  const more = '<features><acpi/></features>'
  const dom = await define(client, domainXml('efi', { os, more }))
  const variables = join(state, 'nvram/efi_VARS.fd')
  for (const byte of [0x11, 0x22]) {
    const paused = { dom, flags: 1 }
    const { dom: running } = await client.call('DOMAIN_CREATE_WITH_FLAGS', paused)
    t.deepEqual(readFileSync(variables), Buffer.alloc(128 << 10, byte))
    await client.call('DOMAIN_DESTROY', { dom: running })
    writeFileSync(variables, Buffer.alloc(128 << 10, 0x22))
  }
})
