@echo off
rem Start the tool on Windows from a checkout or an installation, with nothing set up before.
rem environment.py makes the virtual environment on first use; its stamp is a copy of pyproject.toml,
rem and constraints.txt beside it one of bin\constraints.txt.
setlocal
set "APIKEY_LAUNCHER=%~f0"
for %%P in ("%~dp0..") do set "project=%%~fP"
set "shared=%project%\.venv"
set "own=%LOCALAPPDATA%\metricshub-apikey\%project::=%\.venv"

set "venv=%shared%"
call :fresh
if not errorlevel 1 goto run
set "venv=%own%"
call :fresh
if not errorlevel 1 goto run

set "python=py -3"
call :new_enough
if not errorlevel 1 goto make
set "python=python"
call :new_enough
if not errorlevel 1 goto make
echo apikey: Python 3.11 or newer is needed; neither "py -3" nor "python" is one. 1>&2
exit /b 1

:make
%python% -I "%~dp0environment.py" "%shared%" "%own%" >nul <nul
if errorlevel 1 exit /b 1
set "venv=%shared%"
call :fresh
if not errorlevel 1 goto run
if exist "%own%\apikey.stamp" set "venv=%own%"

:run
"%venv%\Scripts\python.exe" -I -c "from metricshub_apikey.__main__ import main; main()" %*
exit /b %errorlevel%

:fresh
if not exist "%venv%\Scripts\python.exe" exit /b 1
fc /b "%venv%\apikey.stamp" "%project%\pyproject.toml" >nul 2>&1 || exit /b 1
fc /b "%venv%\constraints.txt" "%project%\bin\constraints.txt" >nul 2>&1
exit /b %errorlevel%

:new_enough
%python% -c "import sys; sys.exit(sys.version_info < (3, 11))" >nul 2>&1 <nul
exit /b %errorlevel%
