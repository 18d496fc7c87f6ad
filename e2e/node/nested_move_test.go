package node

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// nests makes a container's worth of namespaces: mounts of its own with flags, a file system in memory
// with content, one that others share, another root, a socket with a name, and a network with a
// cable to the job's.
const nests = `
ip link add out type veth peer name in
ip addr add 10.1.0.1/24 dev out; ip link set out up
mkdir /tmp/sub /tmp/sub/seen /tmp/root /tmp/named
mount -t tmpfs all /tmp/sub/seen; mount --make-shared /tmp/sub/seen
cat >/tmp/inner <<'END'
mount -t tmpfs -o nosuid,noexec,size=1m own /mnt; echo secret >/mnt/f; umask 077; : >/mnt/g
mount -t tmpfs "" /mnt/../tmp/named
mount --bind /etc /tmp/sub; mount -o remount,bind,ro,nodev /tmp/sub
mount --make-shared /mnt; mkdir /mnt/peer /mnt/slave; mount --bind /mnt /mnt/peer; mount --make-slave /mnt/peer
exec 5</etc/passwd 6</mnt/f 7>/mnt/gone; echo lost >&7; rm /mnt/gone
until ip link show in >/tmp/said 2>&1; do sleep .01; done
ip addr add 10.1.0.2/24 dev in; ip link set in up; ip link set lo up; ip route add 10.2.0.0/16 via 10.1.0.1
exec sleep 100001
END
unshare --mount --net --propagation unchanged sh -e /tmp/inner & inner=$!
until [ "$(readlink /proc/$inner/ns/net)" != "$(readlink /proc/1/ns/net)" ]; do sleep .01; done
ip link set in netns $inner
unshare --mount --propagation private sh -ec 'mount -t tmpfs root /tmp/root; cd /tmp/root; mkdir old usr proc; echo new >here; mount -t proc proc proc
  ln -s usr/bin usr/lib usr/lib64 .; mount --bind -o ro /usr usr; pivot_root . old; umount -l /old; exec sleep 100002' & other=$!
until [ "$(cat /proc/$inner/comm)" = sleep ] && [ "$(cat /proc/$other/comm)" = sleep ]; do sleep .01; done
echo nested $inner $other; wait`

func TestNamespacesInsideAJobsArriveAsTheyWere(t *testing.T) {
	for name, flags := range map[string][]string{"root": nil, "root in a user namespace": {"--user-ns"}} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 2)
			here, there := c.two()
			j := here.launch(append(flags, "--", "sh", "-ec", nests)...)
			var inner, other string
			eventually(t, limit, func() error {
				if _, err := fmt.Sscanf(j.logs(here), "nested %s %s", &inner, &other); err != nil {
					return fmt.Errorf("the job says %q: %w", j.logs(here)+j.stderr(here), err)
				}
				return nil
			})
			before := j.nests(here, inner, other)
			for range 2 {
				j.move(here, there)
				here, there = there, here
				if after := j.nests(here, inner, other); after != before {
					t.Errorf("on %s:\n%s\nwas:\n%s", here.name, after, before)
				}
			}
		})
	}
}

// nests describes the namespaces of the job and those inside, as the job sees them.
func (j *job) nests(n *node, inner, other string) string {
	j.t.Helper()
	ask := func(script string) string {
		j.t.Helper()
		return n.migrate("exec", j.id, "sh", "-ec", script).want(j.t, 0).out
	}
	var all []string
	for _, pid := range []string{"1", inner, other} {
		all = append(all, mountsOf(ask("cat /proc/"+pid+"/mountinfo")))
	}
	in := "nsenter --net --mount --target " + inner + " "
	all = append(all, ask("stat -c '%A %u %g %N' /proc/"+other+"/root/* /proc/"+inner+"/root/mnt/*; cat /proc/"+inner+"/root/mnt/f /proc/"+inner+"/fd/6 /proc/"+inner+"/fd/7; readlink /proc/"+inner+"/fd/7"),
		ask(in+"ip -o addr show | sed 's/ *valid_lft.*//; s/@if[0-9]*//; s/ tentative//'"), ask(in+"ip route"), ask("ip -o addr show | sed 's/ *valid_lft.*//; s/@if[0-9]*//; s/ tentative//'"),
		ask(in+"ip -o link show in | grep -o LOWER_UP"), ask("[ -e /mnt/f ] || echo hidden"),
		ask("for p in 1 "+inner+" "+other+"; do for k in user pid ipc uts; do [ /proc/1/ns/$k -ef /proc/$p/ns/$k ] && echo shares $k; done; [ /proc/1/ns/mnt -ef /proc/$p/ns/mnt ] || echo own mounts; done"))
	return strings.Join(all, "\n--\n")
}

var (
	mountNumber = regexp.MustCompile(`^\d+ \d+ \d+:\d+ `)
	peerGroup   = regexp.MustCompile(`(shared|master|propagate_from):\d+`)
	outputDir   = regexp.MustCompile(`^\S*/n\d(/state/\S*/io )`)
	rootOptions = regexp.MustCompile(`,(mode|uid|gid)=\d+`)
)

// mountsOf takes out of a mountinfo what each node has for itself: numbers, where the output is, and
// how the root of a file system in memory was made.
func mountsOf(info string) string {
	lines := strings.Split(strings.TrimSpace(info), "\n")
	for i, l := range lines {
		l = outputDir.ReplaceAllString(mountNumber.ReplaceAllString(l, ""), "$1")
		lines[i] = rootOptions.ReplaceAllString(peerGroup.ReplaceAllString(l, "$1"), "")
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
