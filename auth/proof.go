package auth

import (
	"crypto/subtle"
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"

	"tokenhub/db"
)

// digest stands for a text in memory: SHA-256 of a secret of this process and
// the text.
type digest [32]byte

// proof says that the text with this digest opens this hash. It says nothing
// about the key: whether the hash is still the key's, and the key usable, is
// read from the live record each time.
type proof struct {
	phc    string
	digest digest
}

// proofs remembers one proof for each hash, by the prefix of the key or token.
// Reading takes no lock: the shards are replaced as a whole by writers, which
// are as rare as argon2id is slow. Each writer also drops what is no longer live
// from its shard and from one other in turn, so that there are never more proofs
// than live hashes and those that died during the last few dozen proofs.
type proofs struct {
	seed   maphash.Seed
	shards [64]shard

	mu   sync.Mutex // held by writers; guards turn
	turn int
}

type shard struct {
	atomic.Pointer[map[string][]proof]
}

// living tells the live hashes of a prefix; ok is false when they can't be read
// now, and the proofs stay.
type living func(prefix string) (secrets []db.Secret, ok bool)

func (p *proofs) shard(prefix string) *shard {
	return &p.shards[maphash.String(p.seed, prefix)%uint64(len(p.shards))]
}

// of returns the proofs of one prefix; they are not the caller's to change.
func (p *proofs) of(prefix string) []proof {
	m := p.shard(prefix).Load()
	if m == nil {
		return nil
	}
	return (*m)[prefix]
}

// match returns the hash that the digest's text was proven to open, or "".
func (p *proofs) match(prefix string, d *digest) (phc string) {
	for _, known := range p.of(prefix) {
		if subtle.ConstantTimeCompare(known.digest[:], d[:]) == 1 {
			return known.phc
		}
	}
	return ""
}

// put stores a proof, if its hash is live.
func (p *proofs) put(prefix string, add proof, live living) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.shard(prefix)
	s.sweep(live)
	if secrets, ok := live(prefix); ok && has(secrets, add.phc) {
		next := maps.Clone(*s.Load())
		next[prefix] = append(without(next[prefix], add.phc), add)
		s.Store(&next)
	}
	p.turn = (p.turn + 1) % len(p.shards)
	p.shards[p.turn].sweep(live)
}

// sweep drops the proofs that are not live.
func (s *shard) sweep(live living) {
	next := map[string][]proof{}
	if old := s.Load(); old != nil {
		for prefix, list := range *old {
			secrets, ok := live(prefix)
			for _, known := range list {
				if !ok || has(secrets, known.phc) {
					next[prefix] = append(next[prefix], known)
				}
			}
		}
	}
	s.Store(&next)
}

// without copies a list without the proof of one hash.
func without(list []proof, phc string) (rest []proof) {
	for _, known := range list {
		if known.phc != phc {
			rest = append(rest, known)
		}
	}
	return rest
}

// count returns the number of proofs.
func (p *proofs) count() (n int) {
	for i := range p.shards {
		if m := p.shards[i].Load(); m != nil {
			for _, list := range *m {
				n += len(list)
			}
		}
	}
	return n
}

func has(secrets []db.Secret, phc string) bool {
	for i := range secrets {
		if secrets[i].PHC == phc {
			return true
		}
	}
	return false
}
