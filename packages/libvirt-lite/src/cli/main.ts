process.stderr.write('libvirt-lite: the daemon is not part of this version yet\n')
process.exitCode = 1
