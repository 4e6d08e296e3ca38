package bolt

import "tokenhub/db"

// maxNames is how many model names get rows of their own. Callers choose the
// names, so there has to be an end.
const maxNames = 10_000

// nameSet holds the model names that a provider answered with 2xx.
type nameSet map[string]struct{}

// judge decides whether the names of e have rows of their own, and remembers
// those that its answer proves.
func (s nameSet) judge(e *entry) {
	if e.rec.Status >= 200 && e.rec.Status <= 299 {
		s.add(e.rec.Model)
		s.add(e.rec.Served)
	}
	_, e.ownModel = s[e.rec.Model]
	_, e.ownServed = s[e.rec.Served]
}

func (s nameSet) add(name string) {
	if _, ok := s[name]; !ok && len(s) < maxNames {
		s[name] = struct{}{}
	}
}

// rolledNames returns the names under which e counts in the roll-ups.
func (e *entry) rolledNames() (model, served string) {
	model, served = db.OtherModel, db.OtherModel
	if e.ownModel {
		model = e.rec.Model
	}
	if e.ownServed {
		served = e.rec.Served
	}
	return model, served
}
