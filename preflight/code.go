package preflight

const ClockBehind Code = "clock-behind"
