// virt-xml and virt-clone, which come with virt-install.
import { execFile, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { hasVirsh, virsh, without } from './support/clients.ts'
import { domainXml, folder, startDaemon } from './support/daemon.ts'

const has = (program: string): boolean => spawnSync(program, ['--version']).status === 0
const missing = !hasVirsh ? 'virsh' : ['virt-xml', 'virt-clone'].find((program) => !has(program))

async function setup(t: ExecutionContext) {
  const at = folder(t)
  const { socket, state } = await startDaemon(t, at)
  const uri = `qemu+unix:///session?socket=${socket}`
  const run = async (program: string, ...args: string[]): Promise<string> => {
    const options = { timeout: 120_000, env: { ...process.env, LC_ALL: 'C', HOME: at } }
    try {
      const { stdout, stderr } = await promisify(execFile)(
        program,
        ['--connect', uri, ...args],
        options,
      )
      return stdout + stderr
    } catch (error) {
      const { stdout, stderr } = error as { stdout: string; stderr: string }
      throw new Error(`${program} ${args.join(' ')}: ${stdout}${stderr}`, { cause: error })
    }
  }
  const dump = async (name: string, ...flags: string[]): Promise<string> =>
    (await virsh(socket, 'dumpxml', name, ...flags)).output
  await virsh(socket, 'vol-create-as', 'default', 'a.img', '1M')
  const disk = `<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${state}/images/a.img'/><target dev='vda' bus='virtio'/></disk>`
  const card = `<interface type='network'><mac address='52:54:00:00:00:0a'/><source network='default'/><model type='virtio'/></interface>`
  const file = join(at, 'a.xml')
  const more = '<features><acpi/></features>'
  writeFileSync(file, domainXml('a', { devices: disk + card, more }))
  t.regex((await virsh(socket, 'define', file)).output, /defined/)
  return { at, socket, state, file, run, dump }
}

test.serial('virt-xml edits definitions, adds devices to them and removes them', async (t) => {
  if (missing !== undefined) return without(t, missing)
  const { socket, state, run, dump } = await setup(t)
  t.regex(await run('virt-xml', 'a', '--edit', '--memory', '128'), /defined successfully/)
  t.regex(await dump('a'), /<memory unit='KiB'>131072</)
  await run('virt-xml', 'a', '--edit', '--vcpus', '2')
  await run('virt-xml', 'a', '--edit', '--metadata', 'title=hello')
  await run('virt-xml', 'a', '--edit', '--cpu', 'host-passthrough')
  await run('virt-xml', 'a', '--edit', 'target=vda', '--disk', 'cache=none')
  const edited = await dump('a')
  t.regex(
    edited,
    /<title>hello<\/title>[^]*<vcpu [^>]*>2<[^]*mode='host-passthrough'[^]*cache='none'/,
  )
  const added = await run(
    'virt-xml',
    'a',
    '--add-device',
    '--disk',
    'size=1,format=qcow2,bus=virtio',
  )
  t.regex(added, /defined successfully/)
  t.regex(await dump('a'), /type='qcow2'[^]*<target dev='vdb'/)
  await run('virt-xml', 'a', '--add-device', '--rng', '/dev/urandom')
  await run('virt-xml', 'a', '--add-device', '--network', 'default,model=virtio')
  t.is((await dump('a')).split('<interface').length - 1, 2)
  await run('virt-xml', 'a', '--remove-device', '--network', '2')
  await run('virt-xml', 'a', '--remove-device', '--disk', 'target=vdb')
  await run('virt-xml', 'a', '--remove-device', '--rng', 'all')
  t.notRegex(await dump('a'), /vdb|<rng/)
  t.is((await dump('a')).split('<interface').length - 1, 1)
  await t.throwsAsync(run('virt-xml', 'a', '--remove-device', '--disk', 'target=vdz'), {
    message: /No matching objects/,
  })
  t.regex(await run('virt-xml', 'a', '--edit', '--print-diff', '--memory', '64'), /65536/)

  // Of a running domain as well.
  await run('virt-xml', 'a', '--edit', '--cpu', 'clearxml=yes')
  await run('virt-xml', 'a', '--edit', '--vcpus', '1')
  t.regex((await virsh(socket, 'start', 'a')).output, /started/)
  await virsh(socket, 'vol-create-as', 'default', 'b.img', '1M')
  const disk = `${state}/images/b.img,bus=virtio`
  t.regex(
    await run('virt-xml', 'a', '--add-device', '--disk', disk, '--update'),
    /hotplug successful/,
  )
  t.regex(await dump('a'), /b\.img/)
  t.regex(await dump('a', '--inactive'), /b\.img/)
})

test.serial('virt-clone copies a domain with its disks', async (t) => {
  if (missing !== undefined) return without(t, missing)
  const { at, socket, state, file, run, dump } = await setup(t)
  const image = join(state, 'images/a.img')
  writeFileSync(image, Buffer.alloc(1 << 20, 'content'))
  t.regex(await run('virt-clone', '--original', 'a', '--auto-clone'), /Clone '.*' created/)
  const clone = await dump('a-clone')
  t.regex(clone, /images\/a-clone\.img/)
  t.notRegex(clone, /52:54:00:00:00:0a/)
  t.true(readFileSync(join(state, 'images/a-clone.img')).equals(readFileSync(image)))
  const uuid = /<uuid>(.*)<\/uuid>/
  t.not(uuid.exec(clone)?.[1], uuid.exec(await dump('a'))?.[1])
  t.regex((await virsh(socket, 'start', 'a-clone')).output, /started/)

  const path = join(state, 'images/named.img')
  await run(
    'virt-clone',
    '--original-xml',
    file,
    '--name',
    'named',
    '--file',
    path,
    '--mac',
    '52:54:00:00:00:0b',
  )
  t.regex(await dump('named'), /named\.img[^]*52:54:00:00:00:0b/)
  t.true(existsSync(path))

  const other = join(at, 'elsewhere.img')
  await run('virt-clone', '--original', 'a', '--name', 'outside', '--file', other)
  t.true(readFileSync(other).equals(readFileSync(image)))
  t.regex(await dump('outside'), /elsewhere\.img/)
})
