package vm

import ("testing";"time")

func TestZZ(t *testing.T) {
	l := openLab(t)
	for range 2 {
	began := time.Now()
	m, err := l.Machine(t.Context(), "m"+began.Format("05"), 3)
	if err != nil { t.Fatal(err) }
	t.Log(time.Since(began))
	if err := m.Start(t.Context()); err != nil { t.Fatal(err) }
	t.Log("one", time.Since(began))
	m.PowerOff()
	time.Sleep(time.Second)
	}
	if _, _, err := l.Pair(t.Context()); err != nil { t.Fatal(err) }
}
