package bolt

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// position is a place in the journal: all of the files before seq, and the first
// off bytes of that one.
type position struct {
	seq uint64
	off int64
}

func (p position) encode() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, p.seq), uint64(p.off))
}

func decodePosition(b []byte) (position, error) {
	if len(b) != 16 {
		return position{}, errors.New("the place in the journal is damaged")
	}
	return position{binary.BigEndian.Uint64(b), int64(binary.BigEndian.Uint64(b[8:]))}, nil
}

func (p position) compare(o position) int {
	return cmp.Or(cmp.Compare(p.seq, o.seq), cmp.Compare(p.off, o.off))
}

// journalName is the name of a journal file.
type journalName struct {
	name string
	seq  uint64
}

func journalPath(dir string, seq uint64) string {
	return filepath.Join(dir, fmt.Sprintf("usage-%d.log", seq))
}

// journalNames lists the journal files of a folder in their order.
func journalNames(dir string) ([]journalName, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []journalName
	for _, e := range entries {
		number, found := strings.CutPrefix(e.Name(), "usage-")
		number, isLog := strings.CutSuffix(number, ".log")
		if seq, err := strconv.ParseUint(number, 10, 64); found && isLog && err == nil {
			list = append(list, journalName{e.Name(), seq})
		}
	}
	slices.SortFunc(list, func(a, b journalName) int { return cmp.Compare(a.seq, b.seq) })
	return list, nil
}
