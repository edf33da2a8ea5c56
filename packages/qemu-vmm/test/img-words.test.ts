import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { peer, temporary, tool } from './support/disks.ts'
import { ours } from './support/img.ts'

// The same commands by both programs, each in a folder of its own: what they print, how they end, and
// what the images hold afterwards. `@` is the folder, lines that begin with `io` are for qemu-io.
const compared = peer ? test : test.skip

const IMAGES = `
create -f qcow2 @a 10M
io @a write -P 5 0 200k
io @a write -P 6 5M 100k
`
const CHAIN = `${IMAGES}
create -f qcow2 -b a -F qcow2 @b
io @b write -P 9 64k 64k
io @b write -P 8 9M 70k
create -q -f qcow2 -b b -F qcow2 @c 12M
io @c write -P 7 100k 100k
`

const scripts: Readonly<Record<string, string>> = {
  create: `
create -f qcow2 -o compression_type=zstd,preallocation=metadata,compat=1.1 @x 1M
create -f qcow2 -o compat=0.10 @v2 100M
create -f qcow2 -o lazy_refcounts=on,refcount_bits=8,cluster_size=1M @lazy 1.5G
create -f raw -o preallocation=falloc @r 1M
create -f raw -o preallocation=full @r 1M
create -f qcow2 -o preallocation=full @full 3M
create -f qcow2 -o preallocation=falloc @falloc 3M
create -f qcow2 -u -b nowhere -F raw @u 4M
create -f raw @nowhere 4M
create -f qcow2 @none
create -f qcow2 -b nothing -F raw @none 1M
create -f bad @none 1M
create -f qcow2 -o cluster_size=1000 @none 1M
create -f qcow2 -o compat=0.10,compression_type=zstd @none 1M
create -f qcow2 -o compat=0.10,refcount_bits=1 @none 1M
create
info @x
info @v2
info @lazy
info --output=json @x
info @falloc
check @x
check @lazy
map --output=json @x
measure -O qcow2 --size 1G
measure -O qcow2 -o cluster_size=4k,refcount_bits=64 --size 77777k
measure -O qcow2 -o preallocation=full --size 77777k
measure -O qcow2 --output=json @x
measure -O raw --output=json @x
measure -O raw @v2
measure
`,
  resize: `${IMAGES}
resize @a 20M
info @a
resize @a +4M
resize @a -- -2M
resize @a 10M
resize --shrink @a 3M
check @a
map --output=json @a
resize @a 3M
resize --shrink @a -- -4M
resize @a 1000G
check @a
resize --preallocation=metadata @a 1010G
resize --preallocation=bad @a 2T
resize --preallocation=falloc --shrink @a 1M
resize --shrink @a 4M
resize --preallocation=metadata @a 8M
resize --preallocation=falloc @a 10M
resize --preallocation=full @a 12M
check @a
create -q -f raw @r 1M
resize -f raw @r 3M
resize -f raw --shrink @r 100k
resize -f raw --preallocation=full @r 200k
resize -f raw --preallocation=falloc @r 300k
resize -f raw --preallocation=metadata @r 400k
resize -f qcow2 @r 1M
resize @r 500k
resize --shrink @r 5k
resize @a
resize @missing 1M
`,
  snapshots: `${IMAGES}
snapshot -l @a
snapshot -c one @a
io @a write -P 1 128k 128k
io @a write -z 5M 64k
snapshot -c two @a
resize @a 30M
io @a write -P 2 25M 64k
snapshot -c three @a
check @a
snapshot -a one @a
info --output=json @a
check @a
snapshot -a two @a
check @a
snapshot -a 3 @a
snapshot -d two @a
check @a
snapshot -d two @a
snapshot -d 1 @a
snapshot -a nope @a
snapshot -c one -l @a
snapshot -d one @a
snapshot -d three @a
check @a
map --output=json @a
create -q -f qcow2 -o refcount_bits=1 @one 1M
snapshot -c x @one
create -q -f raw @r 1M
snapshot -c x @r
snapshot -l @r
snapshot -d x @r
snapshot -l @a
commit -f raw @r
rebase -b a -F qcow2 @r
rebase -u -b a -F qcow2 @r
amend -o compat=1.1 @r
info @r
check @r
create -q -f qcow2 -o compat=0.10 @v2 1M
io @v2 write 0 64k
snapshot -c x @v2
resize @v2 2M
snapshot -a x @v2
snapshot -d x @v2
resize @v2 2M
check @v2
`,
  commit: `${CHAIN}
commit @a
commit -p @c
check @c
check @b
map --output=json @c
map --output=json @b
map @b
io @c write -P 3 11M 64k
commit -d @c
commit -b none @c
commit -b @a @c
info --backing-chain @c
check @a
commit -q @b
commit
`,
  rebase: `${CHAIN}
create -q -f qcow2 @other 4M
io @other write -P 4 0 2M
rebase -b other -F qcow2 @b
check @b
rebase -b a -F qcow2 -p @c
check @c
rebase -b '' @b
check @b
rebase -u -b somewhere -F raw @b
info @b
info @c
rebase -u -b '' @b
info @b
rebase -b missing -F qcow2 @c
rebase @c
rebase -u -b a @c
info --backing-chain --output=json @c
`,
  convert: `${CHAIN}
convert -O qcow2 @c @flat
convert -O raw @c @raw
convert -p -O qcow2 -c @c @packed
check @packed
info @packed
map @packed
convert -O qcow2 -c -o compression_type=zstd,cluster_size=16k @c @zstd
check @zstd
convert -O qcow2 -B b -F qcow2 @c @top
check @top
convert -n -O raw @a @raw
resize -q -f raw @raw 20M
convert -n -O raw @a @raw
convert -O raw @a @b @both
convert -S 1 @a @x
convert -m 0 @a @x
convert -m 17 @a @x
convert -n @a @missing
convert -n -o x=y @a @x
convert -O bad @a @x
convert -B x @a @x
convert --target-is-zero @a @x
convert @a
convert -O qcow2 -m 3 -W -S 64k @raw @wild
check @wild
convert -S 0 -O raw @a @solid
snapshot -c s @a
io @a write -P 77 0 10M
convert -l s -O raw @a @old
convert -l nope -O raw @a @x
compare @old @flat
compare -s @flat @c
compare @a @c
compare @a @missing
compare @a
compare -q @a @c
dd if=@a of=@dd bs=4k count=20
dd if=@a of=@dds bs=4k skip=3
dd -O qcow2 if=@a of=@ddq bs=1M
dd if=@a
check @ddq
map --start-offset=64k --max-length=1M --output=json @a
map --output=xx @a
check -r x @a
info @missing
frobnicate
`,
  amend: `
create -q -f qcow2 -o compat=0.10 @a 3M
io @a write -P 3 1M 1M
snapshot -c s @a
amend -o compat=1.1 @a
info --output=json @a
check @a
amend -o lazy_refcounts=on @a
check @a
amend -o lazy_refcounts=off,compat=1.1 @a
check @a
amend @a
amend -f raw -o compat=1.1 @a
amend -o size=5M @a
info @a
amend -o size=6M @a
create -q -f qcow2 -b a -F qcow2 @b
amend -o backing_file=a,backing_fmt=qcow2 @b
amend -o backing_fmt=raw @b
info @b
`,
}

interface Result {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** What differs for good reasons: the folder, times, what the host stores, hints behind QEMU's words. */
function plain({ status, stdout, stderr }: Result, folder: string): unknown {
  const text = (from: string): string =>
    from
      .replaceAll(`${folder}/`, '')
      .replaceAll(/disk size: .*/g, 'disk size')
      .replaceAll(/"actual-size": \d+/g, '"actual-size": 0')
      .replaceAll(/"date-n?sec": \d+/g, '"date": 0')
      .replaceAll(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, 'date')
      .replaceAll(/, not '.*/g, '.')
      .replaceAll(/ *[,(:] *(?:did you mean|only|valid|use -|refcount_bits=).*/g, '')
      // Where clusters are is up to who writes them; progress is shown when there is some.
      .replaceAll(/\d+\/\d+ = .*\n|Image end offset: .*\n/g, '')
      .replaceAll(/(?: *\([\d.]+\/100%\)\r)+/g, '(100%)')
      .replaceAll(/\nTry 'qemu-img --help'.*/g, '')
  let out: unknown = text(stdout)
  if (/^[[{]/.test(stdout) && stdout.includes('\n    ')) out = JSON.parse(text(stdout))
  return { status, out, err: text(stderr) }
}

for (const [name, script] of Object.entries(scripts)) {
  compared(`qemu-img says and does what the original does: ${name}`, async (t) => {
    const path = temporary(t)
    const [mine, theirs] = [path('mine'), path('theirs')]
    mkdirSync(mine)
    mkdirSync(theirs)
    for (const line of script.split('\n').filter((one) => one !== '')) {
      const words = line.split(' ').map((word) => (word === "''" ? '' : word))
      const at = (folder: string): string[] => words.map((word) => word.replace('@', `${folder}/`))
      if (words[0] === 'io') {
        for (const folder of [mine, theirs]) {
          const [, image = '', ...command] = at(folder)
          const done = tool('qemu-io', '-f', 'qcow2', '-c', command.join(' '), image)
          t.is(done.status, 0, `${line}: ${done.stderr}`)
        }
        continue
      }
      const own = plain(await ours(...at(mine)), mine)
      const other = plain(tool('qemu-img', ...at(theirs)), theirs)
      t.deepEqual(own, other, line)
    }
    for (const file of readdirSync(theirs)) {
      t.true(existsSync(join(mine, file)), file)
      const same = tool('qemu-img', 'compare', join(mine, file), join(theirs, file))
      t.is(same.stdout, 'Images are identical.\n', `${file}: ${same.stderr}`)
    }
  })
}

test('help and the version are there', async (t) => {
  for (const args of [['--help'], ['-h'], ['convert', '--help']]) {
    const { status, stdout } = await ours(...args)
    t.is(status, 0)
    t.regex(stdout, /Supported formats: qcow2 raw\n$/)
  }
  t.regex((await ours('--version')).stdout, /^qemu-img version 7\.2\.\d+ /)
  t.regex((await ours('bitmap')).stderr, /not supported: bitmap/)
  t.regex((await ours('info', '--image-opts', 'x')).stderr, /'--image-opts' is not supported/)
  t.regex((await ours('convert', '-C', 'x', 'y')).stderr, /'-C' is not supported/)
})
