"""Anomalies of a field of temperatures with xarray: the data set is an argument and the result is one too.

Usage: python warming.py
"""

import numpy as np
import pandas as pd
import xarray

from seamless_dask import direct


def deseasonalized(field):
    """Return the field without its mean over the years of each month."""
    months = field.groupby("time.month")
    return months - months.mean("time")


@direct
def field(years, seed=0):
    """Return monthly temperatures on a coarse grid: seasons, a trend of 0.2 K in ten years, and noise."""
    time = pd.date_range("1990-01-01", periods=12 * years, freq="MS")
    latitude, longitude = np.arange(-75.0, 90, 30), np.arange(0.0, 360, 60)
    rng = np.random.default_rng(seed)
    seasons = 8 * np.cos(2 * np.pi * (time.month - 7) / 12)
    trend = 0.02 * np.arange(time.size) / 12
    noise = rng.normal(scale=0.5, size=(time.size, latitude.size, longitude.size))
    temperatures = 288 + (seasons + trend).to_numpy()[:, None, None] + noise
    return xarray.DataArray(
        temperatures,
        coords={"time": time, "latitude": latitude, "longitude": longitude},
        dims=("time", "latitude", "longitude"),
        attrs={"units": "K"},
    )


@direct
def warming(field):
    """Return the trend of each place, in kelvins per ten years."""
    anomalies = deseasonalized(field)
    years = anomalies.assign_coords(time=np.arange(anomalies.sizes["time"]) / 12)
    trend = 10 * years.polyfit("time", 1).polyfit_coefficients.sel(degree=1, drop=True)
    return trend.rename("warming").assign_attrs(units=f"{field.attrs['units']} per ten years")


found = warming(field(years=30))
print(f"{float(found.mean()):.2f} {found.attrs['units']}, {dict(found.sizes)}")
