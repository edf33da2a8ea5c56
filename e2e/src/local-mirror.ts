// A Debian archive of one package, on the host's loopback.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { type Server, createServer } from 'node:http'
import { join } from 'node:path'
import { must } from './disk.ts'

const control = `Package: from-the-mirror
Version: 1.0
Architecture: all
Maintainer: Nobody <nobody@localhost>
Description: a file that came over the network
`

const hash = (bytes: string | Buffer): string => createHash('sha256').update(bytes).digest('hex')

/** What apt asks a flat archive for, by path. The package puts `payload` to /opt/payload. */
export function archiveFiles(folder: string, payload: Buffer): ReadonlyMap<string, Buffer> {
  const tree = join(folder, 'tree')
  mkdirSync(join(tree, 'DEBIAN'), { recursive: true })
  mkdirSync(join(tree, 'opt'))
  writeFileSync(join(tree, 'DEBIAN/control'), control)
  writeFileSync(join(tree, 'opt/payload'), payload)
  const file = join(folder, 'package.deb')
  must('dpkg-deb', ['--root-owner-group', '-Znone', '-b', tree, file])
  const deb = readFileSync(file)
  const where = `Filename: ./package.deb\nSize: ${deb.length}\nSHA256: ${hash(deb)}\n`
  const packages = Buffer.from(`${control}${where}`)
  const line = ` ${hash(packages)} ${packages.length} Packages`
  const date = `Date: ${new Date().toUTCString()}`
  const release = Buffer.from(`Origin: here\n${date}\nSHA256:\n${line}\n`)
  return new Map([
    ['/Release', release],
    ['/Packages', packages],
    ['/package.deb', deb],
  ])
}

/** Serves them, at a port of the host's choice on its loopback. */
export async function serveFiles(files: ReadonlyMap<string, Buffer>): Promise<Server> {
  const server = createServer((request, response) => {
    const bytes = files.get((request.url ?? '').replace('/./', '/'))
    if (bytes === undefined) response.writeHead(404)
    response.end(bytes)
  })
  server.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  return server
}
